"""Server-sent events: the body of a subscription."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec

from indelible import Checkpoint
from indelible.events import RecordedEvent
from indelible.subscriptions.log_follower import Batch
from indelible.subscriptions.subscription_async import AsyncSubscription

from .problems import problem_of

_encode = msgspec.json.Encoder().encode
_HEARTBEAT = b": heartbeat\n\n"


async def parts(
    subscription: AsyncSubscription[Any],
    heartbeat: float,
    stopping: asyncio.Event,
    form: Callable[[RecordedEvent], Any],
) -> AsyncIterator[bytes]:
    """Return the parts of the body: the events of a batch, a heartbeat, or that it caught up.

    The next batch is read when the client has taken the last one. So a slow client costs no memory.

    Args:
        subscription: a subscription that has begun.
        heartbeat: seconds without events after which a comment is sent.
        stopping: set when the server stops: the body then ends.
        form: returns what is sent of an event.
    """
    batches = subscription.batches()
    caught_up: asyncio.Task[Any] | None = asyncio.ensure_future(subscription.wait_until_caught_up())
    stops = asyncio.ensure_future(stopping.wait())
    following: asyncio.Task[Any] = asyncio.ensure_future(_next(batches))
    try:
        yield b"retry: 1000\n\n"
        while not stopping.is_set():
            waits = {following, stops, *([] if caught_up is None else [caught_up])}
            done, _ = await asyncio.wait(
                waits, timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED
            )
            if following in done:
                batch = following.result()
                if batch is None:
                    return
                if batch.events:
                    yield _events(batch, subscription.checkpoint.epoch, form)
                following = asyncio.ensure_future(_next(batches))
            elif caught_up is not None and caught_up in done:
                caught_up = None
                position = str(subscription.position)
                yield b"event: caught_up\ndata: " + _encode({"position": position}) + b"\n\n"
            elif not done:
                yield _HEARTBEAT
    except Exception as error:
        yield b"event: failed\ndata: " + problem_of(error).body() + b"\n\n"
    finally:
        subscription.stop()
        for task in (following, stops, caught_up):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _next(batches: AsyncIterator[Any]) -> Any:
    return await anext(batches, None)


def _events(batch: Batch[Any], epoch: UUID, form: Callable[[RecordedEvent], Any]) -> bytes:
    """Return events: each has a checkpoint as its id, from which the client continues."""
    return b"".join(
        b"id: %b\ndata: %b\n\n"
        % (
            str(Checkpoint(found.position, epoch, anchor=(found.position, found.id))).encode(),
            _encode(form(found)),
        )
        for found in batch.events
    )
