"""Time-ordered event ids (UUIDv7, RFC 9562)."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from uuid import UUID


def uuid7() -> UUID:
    """Make an event id: a UUID of version 7, which increases with time.

    The 12 bits after the milliseconds hold the fraction of a millisecond (RFC 9562, method 3). So
    the ids of one process are in order, and are added at the right edge of the index.

    Returns:
        A new id.
    """
    return UUID(int=_uuid7())


def uuid7_hexes() -> Iterator[str]:
    """Make ids for events that are appended together, each as 32 hexadecimal digits.

    Each id is the previous one plus one (RFC 9562, section 6.2, method 2). This takes a third of
    the time of `uuid7`.
    """
    number = _uuid7()
    while True:
        yield f"{number:032x}"
        number += 1


def _uuid7() -> int:
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    # The first random bit is 0, so that ids can be counted up from this one without overflow.
    return milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | _random_bits() >> 3


_drawn: Iterator[tuple[int]] = iter(())


def _random_bits() -> int:
    """Return 64 random bits from a block that was fetched in advance.

    `os.urandom` releases the interpreter's lock. If many threads append, each call would let all
    other threads run first.
    """
    global _drawn
    # One C call, so that no two threads get the same bits.
    while (drawn := next(_drawn, None)) is None:
        _drawn = struct.iter_unpack("Q", os.urandom(4096))
    return drawn[0]


def _forget_drawn() -> None:
    global _drawn
    _drawn = iter(())


if hasattr(os, "register_at_fork"):  # otherwise parent and child would draw the same bits
    os.register_at_fork(after_in_child=_forget_drawn)
