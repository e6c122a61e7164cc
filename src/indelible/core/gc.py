"""Pause the garbage collector while many objects are made.

Otherwise the collector scans the objects repeatedly while they are made, which takes a third of the
time of a long read.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def without_gc(make: Callable[[], T]) -> T:
    """Call a function that makes many objects and keeps them all, with the collector paused."""
    # No context manager: a signal handler that raises in one of its methods would leave the
    # collector off. In a `try` block of one function there is no such place.
    was_on = gc.isenabled()
    try:
        if was_on:
            gc.disable()
        return make()
    finally:
        if was_on:
            gc.enable()


async def without_gc_async(made: Awaitable[T]) -> T:
    """Await objects, as `without_gc` makes them."""
    was_on = gc.isenabled()
    try:
        if was_on:
            gc.disable()
        return await made
    finally:
        if was_on:
            gc.enable()
