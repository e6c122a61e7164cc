"""The event that all contenders store: 180 bytes of data as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

import msgspec

STREAMS = 500


@dataclass(frozen=True)
class OrderCreated:
    order_id: UUID
    customer: str
    address: str
    total: str
    items: int
    note: str


_ORDERS = [
    OrderCreated(
        uuid4(),
        "Ann Example",
        "12 Some Street, 10115 Berlin",
        f"{number % 90 + 10}.90",
        number % 9,
        "please ring twice, thankyou",
    )
    for number in range(1_000)
]


def order(number: int) -> OrderCreated:
    """One of many that were made before: making it is no store's work, writing it as JSON is."""
    return _ORDERS[number % 1_000]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(OrderCreated).decode
DATA = encode(order(0)).decode()
assert len(DATA) == 180, len(DATA)
