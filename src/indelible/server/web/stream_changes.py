"""Close and reopen a stream, for those who may."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from indelible.errors import WrongExpectedVersion
from indelible.server.problems import Problem
from indelible.server.routing import Call
from indelible.streams.info import StreamInfo

from . import confirm, formats
from .addresses import address
from .page import page, see
from .rights import changed, may_manage_stream, readable_stream


class StreamName(msgspec.Struct, kw_only=True):
    """The stream to change."""

    name: str


class CloseForm(msgspec.Struct, kw_only=True):
    """Why a stream is closed, and at which version its reader saw it."""

    name: str
    version: Annotated[int, msgspec.Meta(ge=0)]
    reason: str = ""


class ReopenForm(msgspec.Struct, kw_only=True):
    """Why a stream is reopened. An open stream stays as it is."""

    name: str
    reason: str = ""


@page("GET", "/stream/close", query=StreamName)
async def confirm_close(call: Call[StreamName, None]) -> Response:
    """Ask whether to close a stream."""
    info = await _manageable(call, call.query.name)
    return confirm.ask(
        call,
        f"Close {formats.short(info.stream)}",
        "/stream/close",
        f"The stream has {formats.plural(info.version + 1, 'event')}. It takes no new events until"
        " it is reopened. Its events can still be read.",
        verb="Close",
        seen={"name": info.stream, "version": info.version},
        asks_reason=True,
        back=address("/stream", name=info.stream),
    )


@page("POST", "/stream/close", body=CloseForm)
async def close(call: Call[Any, CloseForm]) -> Response:
    """Close a stream, if it is as its reader saw it."""
    form = call.body
    info = await _manageable(call, form.name)
    try:
        await call.store.close_stream(form.name, expected=form.version, reason=form.reason or None)
    except WrongExpectedVersion:
        raise changed(
            f"{formats.plural(info.version + 1, 'event')} now, {form.version + 1:,} when you"
            " looked. Look at the stream again."
        ) from None
    return see("/stream", name=form.name)


@page("GET", "/stream/reopen", query=StreamName)
async def confirm_reopen(call: Call[StreamName, None]) -> Response:
    """Ask whether to reopen a stream."""
    info = await _manageable(call, call.query.name)
    return confirm.ask(
        call,
        f"Reopen {formats.short(info.stream)}",
        "/stream/reopen",
        "The stream takes new events again.",
        verb="Reopen",
        seen={"name": info.stream},
        asks_reason=True,
        back=address("/stream", name=info.stream),
    )


@page("POST", "/stream/reopen", body=ReopenForm)
async def reopen(call: Call[Any, ReopenForm]) -> Response:
    """Reopen a stream."""
    await _manageable(call, call.body.name)
    await call.store.reopen_stream(call.body.name, reason=call.body.reason or None)
    return see("/stream", name=call.body.name)


pages = [confirm_close, close, confirm_reopen, reopen]


async def _manageable(call: Call[Any, Any], name: str) -> StreamInfo:
    info = await readable_stream(call, name)
    if not may_manage_stream(call, info):
        raise Problem(403, "forbidden", "Your token may look at this stream, and not change it.")
    return info
