"""Pause the garbage collector while many objects are made."""

from __future__ import annotations

import gc


class gc_paused:  # noqa: N801 -- used like a function; a generator would cost each read more
    """Pause the garbage collector in a block that makes many objects and keeps them all.

    Otherwise the collector scans the objects repeatedly while they are made, which takes a third of
    the time of a long read.
    """

    __slots__ = ("_was_on",)

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        if self._was_on:
            gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()
