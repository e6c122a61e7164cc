"""Prepare a chunk step by step, while the import waits for the database."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from indelible.errors import InvalidInput

from .chunk import STEP, Chunk
from .operations import Importing


class ChunkMaker:
    """Prepares a chunk step by step, while the import waits for the database."""

    def __init__(self, importing: Importing, events: list[Any]) -> None:
        self._importing = importing
        self._remaining = iter(events)
        self._chunk: Chunk | None = None
        self._error: Exception | None = None

    def step(self) -> bool:
        """Prepare some events. An error is kept for `chunk`: it does not concern earlier chunks.

        Returns:
            Whether more events are left to prepare.
        """
        if self._chunk is None and self._error is None:
            try:
                if events := list(islice(self._remaining, STEP)):
                    self._importing.add(events)
                else:
                    self._chunk = self._importing.finish()
            except Exception as error:
                self._error = error
        return self._chunk is None and self._error is None

    def chunk(self) -> Chunk:
        """Prepare the rest, and return the chunk or raise its error."""
        while self.step():
            pass
        if self._error is not None:
            raise self._error
        assert self._chunk is not None  # noqa: S101
        return self._chunk


def check_events(events: Any) -> Iterable[Any]:
    """Check that events can be iterated over one by one.

    Raises:
        InvalidInput: they cannot be.
    """
    if isinstance(events, str | bytes) or not isinstance(events, Iterable):
        raise InvalidInput(
            "events must be an iterable of lines or events, such as an open file, not"
            f" {type(events).__name__}"
        )
    return events
