"""The delivery service reacts to the orders of the ordering service, through a consumer group.

There is no event bus: the group follows the log that both services share. The delivery is created
in the transaction that acks the event. Therefore each order gets exactly one delivery, even after
a crash.
"""

from __future__ import annotations

from threading import Thread
from types import TracebackType
from typing import Self

from indelible import EventStore, Query, TransactionStore
from indelible.consumer_groups import Consumer

from . import delivery, ordering

GROUP = "delivery"


class Dispatch:
    """A worker of the group, with several threads. Use it as a context manager to stop it."""

    def __init__(self, store: EventStore, threads: int) -> None:
        group = store.group(GROUP)
        group.create(Query(types="OrderCreated", channel=ordering.CHANNEL))
        self._consumer: Consumer[TransactionStore] = group.consume()
        self._threads = [Thread(target=self._work) for _ in range(threads)]

    def _work(self) -> None:
        for event in self._consumer:
            with event, event.transaction() as transaction:
                order = event.data
                delivery_id = delivery.id_for(order.order_id)
                stream = delivery.stream_of(delivery_id)
                # What belongs together, and what has caused what.
                metadata = {
                    "correlation_id": str(order.order_id),
                    "causation_id": str(event.id),
                }
                with transaction.writing(delivery.Delivery, stream, metadata=metadata) as shipment:
                    shipment.create(delivery_id, order.order_id, order.address)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._consumer.stop()
        for thread in self._threads:
            thread.join()
        self._consumer.close()
