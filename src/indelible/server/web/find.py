"""The search field: a name, an id or a position leads to its page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.core.validation import NAME_LENGTH
from indelible.server.routing import Call

from . import rendering
from .addresses import address
from .page import page, see
from .streams import neighbours_of, streams_with

_NAMES = 8
_FILTER = re.compile(r"(type|tag|channel|prefix):\s*")
_NEXT_FILTER = re.compile(r"\s+(?=(?:type|tag|channel|prefix):)")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_POSITION = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18}")


class FindQuery(msgspec.Struct, kw_only=True):
    """What a reader looks for."""

    q: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A page that may be meant."""

    kind: str
    text: str
    to: str


@page("GET", "/find", query=FindQuery)
async def find(call: Call[FindQuery, None]) -> Response:
    """Lead to what a reader looks for: at most four statements, each a look-up of names."""
    text = call.query.q.strip()
    if filters := _filters(text):
        return see("/log", **filters)
    choices = await _choices(call, text) if text else []
    if len(choices) == 1:
        return see(choices[0].to)
    near: list[str] = []
    if not choices and _is_name(text):
        near = await neighbours_of(call, text)
    return rendering.render(
        call.request, "find.html", title="Find", text=text, choices=choices, neighbours=near
    )


@page("GET", "/find/names", query=FindQuery)
async def find_names(call: Call[FindQuery, None]) -> Response:
    """Return names of streams that begin so, for the field: one look-up of eight names."""
    text = call.query.q.strip()
    found: tuple[Any, ...] = ()
    if _is_name(text) and not _FILTER.match(text):
        found = (await streams_with(call, prefix=text, limit=_NAMES)).streams
    return rendering.render(
        call.request, "parts/names.html", title="Names", names=[each.stream for each in found]
    )


def _filters(text: str) -> dict[str, Any]:
    """Return the parameters of the log for a text such as `type:OrderPlaced tag:order:17`."""
    if not _FILTER.match(text):
        return {}
    found: dict[str, Any] = {}
    for part in _NEXT_FILTER.split(text):
        name, _, value = part.partition(":")
        if not value.strip():
            continue
        if name in ("type", "tag"):
            found.setdefault(name, []).append(value.strip())
        else:
            found[name] = value.strip()
    return found


async def _choices(call: Call[FindQuery, None], text: str) -> list[Choice]:
    choices = []
    if _UUID.fullmatch(text):
        choices.append(Choice("Event", text, address("/event", id=UUID(text))))
    if _POSITION.fullmatch(text):
        number = int(text.replace(",", ""))
        choices.append(Choice("Position", f"{number:,}", address("/event", position=number)))
    if not _is_name(text):
        return choices
    exact = await call.store.stream(text)
    if exact is not None and call.principal.may(Verb.READ, text, exact.channel):
        return [*choices, _stream(text)]
    found = await streams_with(call, prefix=text, limit=_NAMES + 1)
    choices += [_stream(each.stream) for each in found.streams[:_NAMES]]
    if len(found.streams) > _NAMES:
        choices.append(
            Choice("Streams", f"all that begin with {text}", address("/streams", prefix=text))
        )
    return choices


def _stream(name: str) -> Choice:
    return Choice("Stream", name, address("/stream", name=name))


def _is_name(text: str) -> bool:
    """Return whether a stream may have this name."""
    return 0 < len(text) <= NAME_LENGTH and not any(each < " " or each == "\x7f" for each in text)


pages = (find, find_names)
