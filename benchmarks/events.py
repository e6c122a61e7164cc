"""The events to append and read: about 180 bytes of JSON each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import msgspec

DATA_BYTES = 180
FIRST_NUMBER = 10_000_000
FIRST_MOMENT = 10**15
"""Added to `number` and `at`, so that all events have the same length."""


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    """The common event.

    Attributes:
        number: the count of the writer.
        at: nanoseconds of the monotonic clock, if the time of the append matters.
    """

    order_id: UUID
    customer: str
    address: str
    total: str
    number: int
    at: int


@dataclass(frozen=True, slots=True)
class OrderReviewed:
    """The rare event: one of a hundred, which a filtered scan selects."""

    order_id: UUID
    customer: str
    address: str
    total: str
    number: int
    at: int


Event = OrderPlaced | OrderReviewed

# For stores that use bytes: the fastest encoder and decoder.
encode = msgspec.json.Encoder().encode
DECODERS: dict[str, Callable[[bytes | str], Event]] = {
    "OrderPlaced": msgspec.json.Decoder(OrderPlaced).decode,
    "OrderReviewed": msgspec.json.Decoder(OrderReviewed).decode,
}


def placed(number: int, at: int = 0, order_id: UUID | None = None) -> OrderPlaced:
    """Make a common event."""
    return OrderPlaced(*_facts(number, at, order_id))


def reviewed(number: int) -> OrderReviewed:
    """Make a rare event."""
    return OrderReviewed(*_facts(number, 0, None))


def log_lines(events: int, *, at_a_time: int, ids: str) -> list[bytes]:
    """Make a log as lines of NDJSON, the same each time: streams of ten events, mixed.

    Args:
        events: the number of events.
        at_a_time: the number of streams in progress at any time. Each event belongs to a random one
            of them. When a stream has all its events, another begins.
        ids: `ordered`, like UUIDv7, or `random`.
    """
    chance = random.Random(events)

    def drawn() -> UUID:
        return UUID(int=chance.getrandbits(128), version=4)

    # The streams in progress at the beginning start at a random event.
    streams = [f"order-{drawn()}" for _ in range(at_a_time)]
    remaining = [chance.randint(1, 10) for _ in streams]
    lines = []
    for number in range(events):
        place = chance.randrange(at_a_time)
        event_id = UUID(int=number << 80 | chance.getrandbits(76)) if ids == "ordered" else drawn()
        lines.append(
            encode(
                {
                    "id": event_id,
                    "stream": streams[place],
                    "type": "OrderPlaced",
                    "data": placed(number, order_id=drawn()),
                }
            )
        )
        remaining[place] -= 1
        if not remaining[place]:
            streams[place], remaining[place] = f"order-{drawn()}", 10
    return lines


def _facts(number: int, at: int, order_id: UUID | None) -> tuple[UUID, str, str, str, int, int]:
    return (
        order_id or uuid4(),
        "Ann Exampleton Jr.",
        "12 Some Street, 10115 Berlin",
        f"{number % 90 + 10}.90",
        FIRST_NUMBER + number,
        FIRST_MOMENT + at,
    )
