"""Garbage collection, kept out of where it finds nothing."""

from __future__ import annotations

import gc


class Uncollected:
    """A block without garbage collection, for one that makes many objects which all stay.

    The collector would look through them again and again while they are made: a third of the time
    that a long read takes. It goes on after the block.
    """

    __slots__ = ("_was_on",)

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        if self._was_on:
            gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()
