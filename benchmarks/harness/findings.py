"""What a reader saw, against what was committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What the reader of one case saw, against what was committed."""

    committed: int
    undone: int
    lost: int
    doubled: int
    out_of_order: int
    never_committed: int

    @property
    def is_clean(self) -> bool:
        """Whether every committed event was seen once, in order, and nothing else."""
        return not (self.lost or self.doubled or self.out_of_order or self.never_committed)


def compare(
    committed: Sequence[tuple[str, int]], seen: Sequence[tuple[str, int]], undone: int = 0
) -> Finding:
    """Compare what was committed with what was seen.

    Args:
        committed: stream and number of each event; the numbers of a stream go up.
        seen: the same, in the order in which the reader got them.
        undone: how many events were rolled back.
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
