"""Compare the events that a reader saw with the committed ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The differences between the events that a reader saw and the committed ones."""

    committed: int
    undone: int
    lost: int
    doubled: int
    out_of_order: int
    never_committed: int

    @property
    def is_clean(self) -> bool:
        """Whether the reader saw exactly the committed events, once each and in order."""
        return not (self.lost or self.doubled or self.out_of_order or self.never_committed)


def compare(
    committed: Sequence[tuple[str, int]], seen: Sequence[tuple[str, int]], undone: int = 0
) -> Finding:
    """Compare the committed events with those that were seen.

    Args:
        committed: the stream and number of each event; the numbers of a stream increase.
        seen: the same for the seen events, in the order of the reader.
        undone: the number of events that were rolled back.
    """
    wanted, found = set(committed), Counter(seen)
    last: dict[str, int] = {}
    turned = 0
    for stream, number in seen:
        turned += number < last.get(stream, -1)
        last[stream] = max(number, last.get(stream, -1))
    return Finding(
        committed=len(wanted),
        undone=undone,
        lost=len(wanted - found.keys()),
        doubled=sum(count - 1 for count in found.values()),
        out_of_order=turned,
        never_committed=len(found.keys() - wanted),
    )
