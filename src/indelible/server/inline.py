"""Refuse events of inline projections, whose code the server does not have."""

from __future__ import annotations

import time
from collections.abc import Iterable

from indelible import AsyncEventStore
from indelible.projections import BuildInfo
from indelible.projections.foreign_inline import refuse_inline

_SECONDS_KNOWN = 1.0
"""Seconds for which the projections are not looked up again: appends would take twice as long."""


class InlineCheck:
    """Knows which inline projections serve.

    A projection that begins to serve within the last second may miss an event that comes through a
    server, as it may miss one of a program that is still connected without it.

    Args:
        store: the store.
    """

    def __init__(self, store: AsyncEventStore) -> None:
        self._store = store
        self._serving: list[BuildInfo] = []
        self._known_until = 0.0

    async def check(self, types: Iterable[str]) -> None:
        """Check the types of events before they are appended.

        Raises:
            InvalidInput: an inline projection handles one of them.
        """
        if time.monotonic() >= self._known_until:
            found = await self._store.projections()
            self._serving = [build for build in found if build.serves_inline]
            self._known_until = time.monotonic() + _SECONDS_KNOWN
        if self._serving:
            refuse_inline(self._serving, types, "the server")
