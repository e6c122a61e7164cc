"""Food delivery: two services, ordering and delivery, on one event store.

Read the modules in this order:

- `ordering`: the rules of an order, as a decider.
- `delivery`: the rules of a delivery, as an aggregate.
- `generator`: the file of orders.
- `business`: the two services process the orders.
- `dispatch`: a consumer group; the delivery service reacts to orders.
- `contest`: optimistic concurrency; two threads change the same delivery.
- `projections`: three read models.
- `pricing` and `hindsight`: facts recorded in advance, and late corrections.
- `report`: the tables at the end.
"""

from .program import main

__all__ = ["main"]
