# Generated from delivery_async.py; do not edit.
"""A delivered event of a consumer group, with a transaction to handle it exactly once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic

from typing_extensions import TypeVar

from indelible.events import Data_co, RecordedEvent
from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine

from .delivered_event import DeliveredEvent
from .progress import InFlightEvent
from .worker import Worker, finish

if TYPE_CHECKING:  # the store is in a higher layer, and creates the deliveries
    from indelible.store.transaction_store import TransactionStore

Bound = TypeVar("Bound", default="TransactionStore")


class Delivery(DeliveredEvent[Data_co], Generic[Data_co, Bound]):
    """An event of a consumer group; see `DeliveredEvent` for its outcomes.

    For type checkers, name the class of its data: `Delivery[OrderPlaced]`. Without one, `data`
    is `Any`.
    """

    def __init__(
        self,
        item: InFlightEvent,
        event: RecordedEvent[Data_co],
        tell: Callable[[InFlightEvent], None],
        verdicts: deque[InFlightEvent],
        engine: PoolEngine,
        worker: Worker,
        bind: Callable[[BoundEngine], Bound],
    ) -> None:
        super().__init__(item, event, tell, verdicts)
        self._engine = engine
        self._worker = worker
        self._bind = bind

    @contextmanager
    def transaction(self) -> Iterator[Bound]:
        """Handle the event exactly once: its ack and the block's writes commit together.

        The end of the block acks the event. An error rolls the block back and does not nack the
        event.

        Returns:
            A context manager that returns a store bound to the transaction, like
            `EventStore.transaction`.

        Raises:
            LeaseLost: another worker has taken over the event, or an earlier transaction has
                finished it; the block is rolled back.
            InvalidInput: the event already has an outcome; the block is rolled back.

        Example:
            ```python
            with delivery:
                with delivery.transaction() as transaction:
                    transaction.connection.execute("UPDATE …")
                    transaction.append("delivery-17", DeliveryBooked(), expected=NO_STREAM)
            ```
        """
        with self._engine.transaction() as engine:
            yield self._bind(engine)
            self._check_unsaid()
            # Run this last, so that it locks its rows as briefly as possible. From here on the
            # server ends the session of a client that is silent for longer than the lease.
            engine.run(finish(self._worker, self._item))
        self._say("settled")
