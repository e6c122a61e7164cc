"""All screens of the page over one store, for tests and pictures that look at each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlencode

from indelible import EventStore, NewEvent
from indelible.examples.food_delivery.program import fill

HOSTILE = '<img src=x onerror="alert(1)">"><svg onload=alert(1)>{{7*7}}\u202e'


def fill_store(url: str, schema: str, *, orders: int) -> None:
    """Fill an empty store with orders, and with what is rare: parked events, a closed stream."""
    fill(url, schema, orders=orders)
    with EventStore.connect(url, schema=schema) as store:
        first = next(iter(store.streams(prefix="delivery")))
        store.close_stream(first.stream, expected=first.version, reason="the restaurant has moved")
        store.append(
            "invoice-1",
            NewEvent(
                "InvoiceSent",
                {"total": 9007199254740993, "note": HOSTILE},
                metadata={"correlation_id": "c-1", "by": HOSTILE},
                tags=("order:4",),
            ),
            expected=-1,
        )
        store.append(f"order-{HOSTILE}", NewEvent(HOSTILE, {HOSTILE: HOSTILE}), expected=-1)
        billing = store.group("billing")
        billing.create(start="beginning", max_attempts=1)

        with billing.consume() as consumer:
            for number, event in enumerate(consumer, 1):
                with suppress(ValueError), event:
                    raise ValueError(f"the bank did not answer {HOSTILE}")
                if number == 3:
                    break


def addresses(url: str, schema: str) -> Mapping[str, str]:
    """Return the address of each screen, by its name."""
    with EventStore.connect(url, schema=schema) as store:
        stream = next(iter(store.streams(prefix="delivery")), None)
        last = next(iter(store.read_all(backwards=True, limit=1)), None)
        groups = [group.name for group in store.groups()]
    name = stream.stream if stream else "delivery-1"
    event_type = last.type if last else "OrderPlaced"
    group = {"name": groups[0] if groups else "billing"}
    found: dict[str, tuple[str, dict[str, str]]] = {
        "overview": ("/", {}),
        "streams": ("/streams", {}),
        "stream": ("/stream", {"name": name}),
        "stream-as-of": ("/stream", {"name": name, "as_of": "1", "valid_at": "now"}),
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
