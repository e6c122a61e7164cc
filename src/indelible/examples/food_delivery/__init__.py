"""Food delivery: two services, ordering and delivery, on one store.

Read it in this order: `ordering` (the rules of an order, as a decider) and `delivery` (those of a
delivery, as an aggregate), `generator` (the file of orders), `business` (what the services do with
it), `dispatch` (one reacts to the other), `contest` (two threads after the same delivery),
`pricing` and `hindsight` (what is known ahead, and late), `report` (the tables at the end).
"""

from .program import main

__all__ = ["main"]
