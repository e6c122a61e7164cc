"""The two services: they process the orders of a file from creation to delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from indelible import EventStore

from . import contest, delivery, ordering, pricing, projections
from .delivery import Delivery
from .dispatch import GROUP, Dispatch
from .generator import OrderLine


@dataclass(frozen=True)
class Outcome:
    """The result of one order."""

    order_id: UUID
    delivery_id: UUID
    course: str
    conflicts: int
    is_canceled: bool


Placed = tuple[tuple[UUID, int], OrderLine]
"""An order's id, the position of its event, and the line that it comes from."""


class Business(AbstractContextManager["Business"]):
    """The services. Each has its own channel and event classes; all share one store."""

    def __init__(self, url: str | None, schema: str, workers: int) -> None:
        self._workers = workers
        open_orders = projections.OpenOrders(schema)
        with ExitStack() as stack:
            # If there are more threads than connections, threads wait for a free connection.
            options = {"url": url, "schema": schema, "migrate": True, "pool_size": workers}
            self.orders: EventStore = stack.enter_context(
                EventStore.connect(
                    **options,  # type: ignore[arg-type]
                    events=ordering.OrderEvent,
                    channel=ordering.CHANNEL,
                    inline=[open_orders],
                )
            )
            open_orders.prepare(self.orders)
            self.deliveries: EventStore = stack.enter_context(
                EventStore.connect(
                    **options,  # type: ignore[arg-type]
                    # Its own events, and the event of the other service that it reacts to.
                    events=delivery.DeliveryEvent | ordering.OrderCreated,
                    channel=delivery.CHANNEL,
                    inline=[open_orders],
                )
            )
            self.prices: EventStore = stack.enter_context(
                EventStore.connect(
                    **options,  # type: ignore[arg-type]
                    events=pricing.PriceEvent,
                    channel=pricing.CHANNEL,
                )
            )
            stack.enter_context(Dispatch(self.deliveries, threads=4))
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def place_all(self, lines: Sequence[OrderLine]) -> Iterator[Placed]:
        """Place orders, several at once; yield each with the line that it comes from."""
        with ThreadPoolExecutor(self._workers) as threads:
            yield from zip(threads.map(self.place, lines), lines, strict=True)

    def wait_for_deliveries(self, placed: Sequence[Placed]) -> None:
        """Wait until the delivery service has created a delivery for each order."""
        if placed:
            last = max(position for (_, position), _ in placed)
            self.deliveries.wait_for(GROUP, last, timeout=300)

    def deliver_all(self, placed: Sequence[Placed]) -> Iterator[Outcome]:
        """Let each delivery take its course, several at once; yield what became of it."""
        with ThreadPoolExecutor(self._workers) as threads:
            courses = [
                threads.submit(self.take_course, order_id, line) for (order_id, _), line in placed
            ]
            for done in as_completed(courses):
                yield done.result()

    def place(self, line: OrderLine) -> tuple[UUID, int]:
        """Place an order; return its id, and the position of its event."""
        order_id = uuid4()
        command = ordering.CreateOrder(
            order_id, line.customer, line.address, line.restaurant, line.items, line.ordered_at
        )
        # command_id makes the command idempotent: a retry returns the first result.
        handled = self.orders.handle(
            ordering.stream_of(order_id),
            ordering.orders,
            command,
            command_id=order_id,
            metadata={"correlation_id": str(order_id)},
        )
        assert handled.result is not None  # noqa: S101
        return order_id, handled.result.position

    def take_course(self, order_id: UUID, line: OrderLine) -> Outcome:
        """Process the delivery of a placed order."""
        delivery_id = delivery.id_for(order_id)
        conflicts = 0
        metadata = {"correlation_id": str(order_id)}

        def change(act: Callable[[Delivery], None]) -> None:
            self.deliveries.handle(
                delivery.stream_of(delivery_id), Delivery, act, metadata=metadata
            )

        change(lambda shipment: shipment.assign(line.courier))
        if line.course == "canceled":
            change(lambda shipment: shipment.cancel(line.reason))
        else:
            change(lambda shipment: shipment.prepare(line.restaurant))
            if line.course == "contested":
                conflicts = contest.cancel_and_pick_up(self.deliveries, delivery_id, line.reason)
            else:
                change(Delivery.pick_up)
                change(lambda shipment: shipment.deliver(line.customer))

        shipment = self.deliveries.load(delivery.stream_of(delivery_id), Delivery)
        is_canceled = shipment.state is delivery.State.CANCELED
        stream = ordering.stream_of(order_id)
        if is_canceled:
            cancel = ordering.CancelOrder(line.reason)
            self.orders.handle(stream, ordering.orders, cancel, metadata=metadata)
        elif line.tip is not None:
            tip = ordering.TipCourier(line.tip)
            self.orders.handle(stream, ordering.orders, tip, metadata=metadata)
        return Outcome(order_id, delivery_id, line.course, conflicts, is_canceled)
