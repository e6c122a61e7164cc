"""Wait for something, unless something else ends the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from .problems import Problem
from .routing import Call

T = TypeVar("T")


async def unless_stopped(call: Call[Any, Any], work: Awaitable[T]) -> T:
    """Return the result of some work that may take long.

    Raises:
        Problem: the server stops.
    """
    found = await first_of(work, call.request.app.state.stopping.wait())
    if found is None:
        raise Problem(503, "unavailable", "the server stops: send the request again")
    return found


async def first_of(work: Awaitable[T], *ends: Awaitable[Any]) -> T | None:
    """Return the result of some work; if something else ends first, cancel the work, return None.

    Args:
        work: the work.
        *ends: what may end first.
    """
    task = asyncio.ensure_future(work)
    others = [asyncio.ensure_future(end) for end in ends]
    try:
        await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, *others):
            each.cancel()
    await asyncio.wait([task, *others])
    return None if task.cancelled() else task.result()
