"""Food delivery: two services, ordering and delivery, on one store.

Read it in this order: `ordering` and `delivery` (the rules of the two services), `generator` (the
file of orders), `business` (what the services do with it), `contest` (two threads after the same
delivery), `report` (the tables at the end).
"""

from .program import main

__all__ = ["main"]
