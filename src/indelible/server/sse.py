"""Server-sent events: the body of a subscription."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from indelible.events import RecordedEvent
from indelible.subscriptions.log_follower import Batch
from indelible.subscriptions.subscription_async import AsyncSubscription

from .parts import PartSize
from .problems import problem_of

_encode = msgspec.json.Encoder().encode
_SILENT_MOVES = 1.0
"""Seconds after which a client is told that the log moved on, if none of the events matched."""


async def parts(
    subscription: AsyncSubscription[Any],
    heartbeat: float,
    stopping: asyncio.Event,
    form: Callable[[RecordedEvent], Any],
) -> AsyncIterator[bytes]:
    """Return the parts of the body: the events of a batch, a heartbeat, or that it caught up.

    Each part has a checkpoint as its id, from which a client that comes back continues. The next
    batch is read when the client has taken the last one. So a slow client costs no memory.

    Args:
        subscription: a subscription that has begun.
        heartbeat: seconds without events after which a comment is sent.
        stopping: set when the server stops: the body then ends.
        form: returns what is sent of an event.
    """
    batches = subscription.batches()
    stops = asyncio.ensure_future(stopping.wait())
    following: asyncio.Task[Any] = asyncio.ensure_future(_next(batches))
    place = str(subscription.checkpoint).encode()
    has_caught_up = subscription.is_caught_up
    has_moved = False
    sent_at = time.monotonic()
    try:
        yield b"retry: 1000\nid: %b\n\n" % place + (_caught_up(place) if has_caught_up else b"")
        while not stopping.is_set():
            due = sent_at + (min(heartbeat, _SILENT_MOVES) if has_moved else heartbeat)
            done, _ = await asyncio.wait(
                {following, stops},
                timeout=max(due - time.monotonic(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            part = b""
            if following in done:
                batch = following.result()
                if batch is None:
                    return
                place = str(subscription.checkpoint).encode()
                news = b""
                if batch.is_caught_up and not has_caught_up:
                    has_caught_up = True
                    news = _caught_up(place)
                for part in _events(batch, subscription, form, news):
                    yield part
                has_moved = not part
            if not part and time.monotonic() >= due:
                yield (part := b": heartbeat\nid: %b\n\n" % place)
                has_moved = False
            if part:
                sent_at = time.monotonic()
            if following in done:
                following = asyncio.ensure_future(_next(batches))
    except Exception as error:
        yield b"event: failed\ndata: " + problem_of(error).body() + b"\n\n"
    finally:
        subscription.stop()
        for task in (following, stops):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _next(batches: AsyncIterator[Any]) -> Any:
    return await anext(batches, None)


def _caught_up(place: bytes) -> bytes:
    position, _, _ = place.decode().partition("@")
    return b"event: caught_up\nid: %b\ndata: %b\n\n" % (place, _encode({"position": position}))


def _events(
    batch: Batch[Any],
    subscription: AsyncSubscription[Any],
    form: Callable[[RecordedEvent], Any],
    news: bytes,
) -> Iterator[bytes]:
    """Return the events in parts of a bounded size; `news` arrives together with the last one."""
    checkpoint_after = subscription._following.checkpoint_after
    size, begin = PartSize(), 0
    while events := batch.events[begin : begin + size.count]:
        part = b"".join(
            b"id: %b\ndata: %b\n\n"
            % (str(checkpoint_after(found, has_more=False)).encode(), _encode(form(found)))
            for found in events
        )
        begin += len(events)
        size.note(len(events), len(part))
        if begin == len(batch.events):
            part, news = part + news, b""
        yield part
    if news:
        yield news
