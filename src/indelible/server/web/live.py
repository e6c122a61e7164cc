"""What a page shows live: server-sent events with numbers as JSON, and rows as HTML."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from indelible.server.problems import problem_of
from indelible.server.routing import EVENT_STREAM, Call

_encode = msgspec.json.Encoder().encode


class Message(msgspec.Struct, frozen=True):
    """One message to a page.

    Attributes:
        kind: the name of the event, which a script of the page handles.
        data: its content, as JSON.
        id: the place to continue from after a lost connection; None to leave it.
    """

    kind: str
    data: Any
    id: str | None = None


def follow(call: Call[Any, Any], messages: AsyncIterator[Message]) -> Response:
    """Answer with messages, as they come.

    The next message is asked for when the browser has taken the last one, so that a slow one costs
    no memory. The answer ends when the server stops.

    Args:
        call: the request.
        messages: the messages.
    """
    state = call.request.app.state
    return StreamingResponse(
        _parts(messages, state.stopping, call.settings.heartbeat),
        media_type=EVENT_STREAM,
        headers={"X-Accel-Buffering": "no"},
    )


async def _parts(
    messages: AsyncIterator[Message], stopping: asyncio.Event, heartbeat: float
) -> AsyncIterator[bytes]:
    stops = asyncio.ensure_future(stopping.wait())
    following: asyncio.Task[Message | None] = asyncio.ensure_future(_next(messages))
    try:
        yield b"retry: 2000\n\n"
        while not stopping.is_set():
            done, _ = await asyncio.wait(
                {following, stops}, timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED
            )
            if following in done:
                message = following.result()
                if message is None:
                    return
                yield _part(message)
                following = asyncio.ensure_future(_next(messages))
            elif not done:
                yield b": heartbeat\n\n"
    except Exception as error:
        yield _part(Message("failed", {"detail": problem_of(error).detail}))
    finally:
        for task in (following, stops):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        close = getattr(messages, "aclose", None)
        if close is not None:
            await close()


async def _next(messages: AsyncIterator[Message]) -> Message | None:
    return await anext(messages, None)


def _part(message: Message) -> bytes:
    place = b"" if message.id is None else b"id: %b\n" % message.id.encode()
    return b"event: %b\n%bdata: %b\n\n" % (message.kind.encode(), place, _encode(message.data))
