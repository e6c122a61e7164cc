"""The parts in which a long answer is sent: small, so that a slow client costs little memory."""

from __future__ import annotations

_FIRST = 10
_LARGEST = 500
_BYTES = 256 * 1024


class PartSize:
    """How many items make the next part: as many as 256 KiB hold, by the size of the last one.

    Attributes:
        count: the number of items.
    """

    def __init__(self) -> None:
        self.count = _FIRST

    def note(self, count: int, size: int) -> None:
        """Note the size of a part.

        Args:
            count: how many items it has.
            size: its bytes.
        """
        self.count = max(1, min(_LARGEST, _BYTES * count // max(size, 1)))
