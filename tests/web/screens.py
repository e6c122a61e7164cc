"""All screens of the page over one store, for tests and pictures that look at each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from indelible import EventStore, NewEvent
from indelible.examples.food_delivery.program import fill

HOSTILE = '<img src=x onerror="alert(1)">"><svg onload=alert(1)>{{7*7}}\u202e'


def fill_store(url: str, schema: str, *, orders: int, is_hostile: bool = True) -> None:
    """Fill an empty store with orders, and with what is rare: parked events, a closed stream.

    Args:
        url: the database.
        schema: the schema of the store.
        orders: how many orders.
        is_hostile: whether some names and data are what an attacker would choose.
    """
    bad = HOSTILE if is_hostile else "within 5 seconds"
    fill(url, schema, orders=orders)
    with EventStore.connect(url, schema=schema) as store:
        first = next(iter(store.streams(prefix="delivery")))
        store.close_stream(first.stream, expected=first.version, reason="the restaurant has moved")
        store.append(
            "invoice-1",
            NewEvent(
                "InvoiceSent",
                {"total": 9007199254740993, "note": bad},
                metadata={"correlation_id": "c-1", "by": bad},
                tags=("order:4",),
            ),
            expected=-1,
        )
        if is_hostile:
            store.append(f"order-{HOSTILE}", NewEvent(HOSTILE, {HOSTILE: HOSTILE}), expected=-1)
        _add_menu(store)
        billing = store.group("billing")
        billing.create(start="beginning", max_attempts=1)

        with billing.consume() as consumer:
            for number, event in enumerate(consumer, 1):
                with suppress(ValueError), event:
                    raise ValueError(f"the bank did not answer {bad}")
                if number == 3:
                    break


def _add_menu(store: EventStore) -> None:
    """Add a stream whose facts were recorded late, in time and ahead of time."""
    now = datetime.now(UTC)
    facts: tuple[tuple[str, dict[str, Any], int | None], ...] = (
        ("DishAdded", {"dish": "Ramen", "price": "12.50"}, None),
        ("PriceSet", {"dish": "Ramen", "price": "13.00"}, -3),
        ("DishAdded", {"dish": "Gyoza", "price": "6.50"}, None),
        ("PriceSet", {"dish": "Ramen", "price": "13.50"}, 21),
        ("DiscountSet", {"dish": "Gyoza", "percent": 10}, 7),
        ("PriceSet", {"dish": "Gyoza", "price": "7.00"}, -1),
        ("DishRemoved", {"dish": "Ramen"}, 60),
    )
    for version, (event_type, data, days) in enumerate(facts):
        valid_at = None if days is None else now + timedelta(days=days)
        event = NewEvent(event_type, data, valid_at=valid_at, tags=(f"dish:{data['dish']}",))
        store.append("menu-7", event, expected=version - 1)


def addresses(url: str, schema: str) -> Mapping[str, str]:
    """Return the address of each screen, by its name."""
    with EventStore.connect(url, schema=schema) as store:
        stream = next(iter(store.streams(prefix="delivery")), None)
        last = next(iter(store.read_all(backwards=True, limit=1)), None)
        groups = [group.name for group in store.groups()]
        menu = [event.position for event in store.read("menu-7")]
    name = stream.stream if stream else "delivery-1"
    event_type = last.type if last else "OrderPlaced"
    group = {"name": groups[0] if groups else "billing"}
    found: dict[str, tuple[str, dict[str, str]]] = {
        "overview": ("/", {}),
        "streams": ("/streams", {}),
        "stream": ("/stream", {"name": name}),
        "stream-both": (
            "/stream",
            {"name": "menu-7", "as_of": str(menu[5] if menu else 1), "valid_at": "now"},
        ),
        "stream-state": ("/stream", {"name": name, "pane": "state"}),
        "stream-hostile": ("/stream", {"name": f"order-{HOSTILE}"}),
        "log": ("/log", {}),
        "types": ("/types", {}),
        "type": ("/type", {"type": event_type}),
        "correlation": ("/correlation", {"id": "c-1"}),
        "groups": ("/groups", {}),
        "group": ("/group", group),
        "group-parked": ("/group", {**group, "tab": "parked"}),
        "projections": ("/projections", {}),
        "projection": ("/projection", {"name": "open-orders"}),
        "health": ("/health", {}),
        "about": ("/about", {}),
        "tokens": ("/tokens", {}),
        "signin": ("/signin", {}),
        "find": ("/find", {"q": "nothing like this"}),
    }
    return {
        name: f"{path}?{urlencode(query)}" if query else path
        for name, (path, query) in found.items()
    }
