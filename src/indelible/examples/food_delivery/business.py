"""What the two services do with the orders of a file: each order lives through its course."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from indelible import EventStore

from . import contest, delivery, ordering, pricing, projections
from .dispatch import GROUP, Dispatch
from .generator import OrderLine


@dataclass(frozen=True)
class Outcome:
    """What became of one order."""

    order_id: UUID
    delivery_id: UUID
    total: Decimal
    tip: Decimal
    course: str
    conflicts: int
    is_canceled: bool


class Business(AbstractContextManager["Business"]):
    """The services: each has its channel and its events, all have the one store."""

    def __init__(self, url: str | None, schema: str, workers: int) -> None:
        self._workers = workers
        open_orders = projections.OpenOrders(schema)
        with ExitStack() as stack:
            # Nothing is lost or invented where threads outnumber connections: they wait.
            options = {"url": url, "schema": schema, "migrate": True, "pool_size": workers}
            self.orders = stack.enter_context(
                EventStore.connect(
                    **options,  # type: ignore[arg-type]
                    events=ordering.OrderEvent,
                    channel=ordering.CHANNEL,
                    inline=[open_orders],
                )
            )
            open_orders.prepare(self.orders)
            self.deliveries = stack.enter_context(
                EventStore.connect(
                    **options,  # type: ignore[arg-type]
                    # Its own events, and the one of the other service that it reacts to.
                    events=delivery.DeliveryEvent | ordering.OrderCreated,
                    channel=delivery.CHANNEL,
                    inline=[open_orders],
                )
            )
            self.prices = stack.enter_context(
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

    def live_through(self, lines: Sequence[OrderLine]) -> Iterator[Outcome]:
        """Let each order live through its course, several at once; yield what became of it."""
        with ThreadPoolExecutor(self._workers) as threads:
            placed = list(threads.map(self.place, lines))
            if not placed:
                return
            # Meanwhile the delivery service has created deliveries; here we wait for the last one,
            # so that we read what our own writes have led to.
            self.deliveries.wait_for(GROUP, max(position for _, position in placed), timeout=300)
            courses = [
                threads.submit(self.take_course, order, line)
                for (order, _), line in zip(placed, lines, strict=True)
            ]
            for done in as_completed(courses):
                yield done.result()

    def place(self, line: OrderLine) -> tuple[ordering.Order, int]:
        """Place an order; return it with the position of its event."""
        order = ordering.Order(uuid4())
        order.create(line.customer, line.address, line.restaurant, line.items, line.ordered_at)
        return order, ordering.save(self.orders, order)

    def take_course(self, order: ordering.Order, line: OrderLine) -> Outcome:
        """Let the delivery of a placed order live through its course."""
        shipment = delivery.load(self.deliveries, delivery.id_for(order.order_id))
        shipment.assign(line.courier)
        delivery.save(self.deliveries, shipment)

        conflicts = 0
        if line.course == "canceled":
            shipment.cancel(line.reason)
            delivery.save(self.deliveries, shipment)
        else:
            shipment.prepare(line.restaurant)
            delivery.save(self.deliveries, shipment)
            if line.course == "contested":
                conflicts = contest.cancel_and_pick_up(
                    self.deliveries, shipment.delivery_id, line.reason
                )
            else:
                shipment.pick_up()
                delivery.save(self.deliveries, shipment)
                shipment.deliver(line.customer)
                delivery.save(self.deliveries, shipment)

        shipment = delivery.load(self.deliveries, shipment.delivery_id)
        is_canceled = shipment.state is delivery.State.CANCELED
        if is_canceled:
            order.cancel(line.reason)
            ordering.save(self.orders, order)
        elif line.tip is not None:
            order.tip_courier(line.tip)
            ordering.save(self.orders, order)
        return Outcome(
            order.order_id,
            shipment.delivery_id,
            order.total,
            order.tip,
            line.course,
            conflicts,
            is_canceled,
        )
