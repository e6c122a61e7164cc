"""Three read models: an inline, an async and a live projection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg import sql
from rich.console import Console
from rich.table import Table

from indelible import (
    NO_STREAM,
    DocumentProjection,
    EventStore,
    NewEvent,
    Query,
    RecordedEvent,
    TableProjection,
    handles,
    unregistered,
)

from . import delivery, ordering


class OpenOrders(TableProjection):
    """Inline, in its own table: orders that are neither delivered nor canceled.

    Both services update it, and neither has the classes of all its events. Therefore it names the
    event types; types without a class are marked with `unregistered`.
    """

    name = "open-orders"

    def __init__(self, schema: str) -> None:
        # A schema of its own: `indelible store reset` does not delete tables of an application.
        self._schema = sql.Identifier(f"{schema}_tables")
        self._table = sql.Identifier(f"{schema}_tables", "open_orders")

    def prepare(self, store: EventStore) -> None:
        """Create the table if it does not exist. For an empty store, also delete its rows."""
        with store.transaction() as transaction:
            connection = transaction.connection
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(self._schema))
            connection.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {} (delivery_id uuid PRIMARY KEY, facts text)"
                ).format(self._table)
            )
            if store.head() == 0:
                self._execute(connection, "DELETE FROM {}")

    def count(self, store: EventStore) -> int:
        """Return the number of open orders."""
        with store.transaction() as transaction:
            rows = self._execute(transaction.connection, "SELECT count(*) FROM {}")
            return int(rows.fetchone()[0])

    @handles("OrderCreated")
    def created(self, event: RecordedEvent, connection: Any) -> None:
        order = event.data
        self._execute(
            connection,
            "INSERT INTO {} VALUES (%s, %s)",
            delivery.id_for(order.order_id),
            f"{order.customer}, {order.restaurant}",
        )

    @handles(unregistered("OrderCanceled"))
    def canceled(self, event: RecordedEvent, connection: Any) -> None:
        self._close(connection, delivery.id_for(UUID(event.stream.removeprefix("order-"))))

    @handles(unregistered("DeliveryDelivered"))
    def delivered(self, event: RecordedEvent, connection: Any) -> None:
        self._close(connection, UUID(event.stream.removeprefix("delivery-")))

    def _close(self, connection: Any, delivery_id: UUID) -> None:
        self._execute(connection, "DELETE FROM {} WHERE delivery_id = %s", delivery_id)

    def _execute(self, connection: Any, statement: LiteralString, *parameters: object) -> Any:
        return connection.execute(sql.SQL(statement).format(self._table), parameters)


@dataclass
class Score:
    courier: str
    picked_up: int = 0


class CourierLeaderboard(DocumentProjection[Score]):
    """Async: one document per courier, from the events of many streams."""

    name = "courier-leaderboard"

    def key(self, event: RecordedEvent) -> str:
        return str(event.data.courier)

    @handles(delivery.DeliveryPickedUp)
    def picked_up(self, score: Score | None, event: RecordedEvent) -> Score:
        found = score or Score(event.data.courier)
        found.picked_up += 1
        return found


@dataclass(frozen=True)
class PutIn:
    dish: str


@dataclass(frozen=True)
class TakenOut:
    dish: str


class Baskets(DocumentProjection[dict[str, int]]):
    """Live: the dishes in a basket, now or as of any time. Nothing is stored."""

    name = "baskets"

    @handles(PutIn)
    def put_in(self, basket: dict[str, int] | None, event: RecordedEvent) -> dict[str, int]:
        found = basket or {}
        return {**found, event.data.dish: found.get(event.data.dish, 0) + 1}

    @handles(TakenOut)
    def taken_out(self, basket: dict[str, int] | None, event: RecordedEvent) -> dict[str, int]:
        found = basket or {}
        return {dish: count for dish, count in found.items() if dish != event.data.dish}


def tell(console: Console, deliveries: EventStore, url: str | None, schema: str) -> bool:
    """Query all three read models and print the results.

    Args:
        console: where to print.
        deliveries: the store of the delivery service.
        url: the database.
        schema: the schema of the store.

    Returns:
        Whether the first two read models agree with the log.
    """
    still_open = OpenOrders(schema).count(deliveries)
    counts = {
        event_type: sum(1 for _ in deliveries.read_all(Query(types=event_type)))
        for event_type in ("OrderCreated", "DeliveryDelivered", "DeliveryCanceled")
    }
    expected = counts["OrderCreated"] - counts["DeliveryDelivered"] - counts["DeliveryCanceled"]

    deliveries.catch_up(CourierLeaderboard)
    scores = deliveries.documents(CourierLeaderboard).find()
    best = sorted(scores.values(), key=lambda score: (-score.picked_up, score.courier))[:3]

    with EventStore.connect(url, schema=schema, events=PutIn | TakenOut) as store:
        basket, yesterday = f"basket-{uuid4()}", datetime.now(UTC) - timedelta(days=1)
        # Filled the day before yesterday on a phone that was offline, but recorded only now.
        filled = [
            NewEvent("PutIn", PutIn(dish), valid_at=yesterday - timedelta(days=1))
            for dish in ("Margherita", "Tiramisu")
        ]
        changed = [TakenOut("Tiramisu"), PutIn("Margherita")]
        store.append(basket, [*filled, *changed], expected=NO_STREAM, channel=ordering.CHANNEL)
        then = store.project(Baskets, basket, valid_at=yesterday).document
        now = store.project(Baskets, basket).document

    table = Table(
        title="\nRead models (projections)",
        title_justify="left",
        caption="inline: in each append. async: after it. live: on read.",
        caption_justify="left",
    )
    for column in ("Kind", "Read model", "Content"):
        table.add_column(column)
    table.add_row("inline", "open orders", f"{still_open:,}")
    table.add_row(
        "async",
        "most pick-ups by courier",
        ", ".join(f"{score.courier} {score.picked_up:,}" for score in best),
    )
    table.add_row("live", "a basket, yesterday", _dishes(then))
    table.add_row("", "the same basket, now", _dishes(now))
    console.print(table)
    return still_open == expected and deliveries.verify(CourierLeaderboard).holds


def _dishes(basket: dict[str, int] | None) -> str:
    return ", ".join(f"{count} {dish}" for dish, count in (basket or {}).items())
