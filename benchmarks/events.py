"""The events that are appended and read: about 180 bytes of JSON each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import msgspec

DATA_BYTES = 180
FIRST_NUMBER = 10_000_000
FIRST_MOMENT = 10**15
"""Added to `number` and `at`, so that all events are of one length."""


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    """The event of which there are many.

    Attributes:
        number: the writer's own count.
        at: nanoseconds of the machine's monotonic clock, where it matters when it was made.
    """

    order_id: UUID
    customer: str
    address: str
    total: str
    number: int
    at: int


@dataclass(frozen=True, slots=True)
class OrderReviewed:
    """One of a hundred: what a filtered scan looks for."""

    order_id: UUID
    customer: str
    address: str
    total: str
    number: int
    at: int


Event = OrderPlaced | OrderReviewed

# For the stores that take and give bytes: the fastest way there is.
encode = msgspec.json.Encoder().encode
DECODERS: dict[str, Callable[[bytes | str], Event]] = {
    "OrderPlaced": msgspec.json.Decoder(OrderPlaced).decode,
    "OrderReviewed": msgspec.json.Decoder(OrderReviewed).decode,
}


def placed(number: int, at: int = 0, order_id: UUID | None = None) -> OrderPlaced:
    """Make an event."""
    return OrderPlaced(*_facts(number, at, order_id))


def reviewed(number: int) -> OrderReviewed:
    """Make one of the rare ones."""
    return OrderReviewed(*_facts(number, 0, None))


def log_lines(events: int, *, at_a_time: int, ids: str) -> list[bytes]:
    """Make a log as lines of NDJSON, the same each time: streams of ten events, mixed.

    Args:
        events: how many.
        at_a_time: how many streams are under way at any moment: each event is of one of them,
            drawn at random, and another stream begins where one has all its events.
        ids: `ordered`, such as UUIDv7 are, or `random`.
    """
    chance = random.Random(events)

    def drawn() -> UUID:
        return UUID(int=chance.getrandbits(128), version=4)

    # Those that are there when the log begins are at any of their events.
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
