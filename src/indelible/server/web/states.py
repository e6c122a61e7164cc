"""The panes with folded states: a state, what an event changed in it, and two versions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, get_origin, get_type_hints

import msgspec
from starlette.responses import Response

from indelible.aggregates.aggregate import Aggregate
from indelible.aggregates.inspection import FoldFailed, NotFolded, fold, types_of_stream
from indelible.app.discovery import FoundDecider, FoundModule
from indelible.errors import (
    DecodingFailed,
    InvalidInput,
    StreamErased,
    UnknownEventType,
    UpcastingFailed,
)
from indelible.serialization.exactness import is_pydantic
from indelible.server.routing import Call
from indelible.streams.info import StreamInfo

from . import formats, rendering
from .json_tree import Tree, parse, tree
from .moments import as_of_position, moment_of
from .page import page
from .rights import readable_stream
from .state_diff import DiffNode, compare

MOST = 20_000
"""A state of more events behind its snapshot is folded only if asked for."""
LONG_FOLD = 60.0
"""Seconds that a fold of all events may take."""
_SHOWN_TEXT = 65_536
_UNREADABLE = (UnknownEventType, DecodingFailed, UpcastingFailed, InvalidInput)


@dataclass(frozen=True, slots=True)
class Choice:
    """A decider that the reader can choose.

    Attributes:
        name: its name.
        fits: whether its events have types that the stream has.
    """

    name: str
    fits: bool


@dataclass(frozen=True, slots=True)
class State:
    """A state for a page: JSON, or text for what JSON does not have.

    Attributes:
        version: the version of the last event; -1 for none.
        tree: the state as a tree; None if it has no JSON.
        text: the state as Python writes it, if it has no JSON.
        json: its JSON; empty if it has none.
    """

    version: int
    tree: Tree | None
    text: str
    json: bytes


@dataclass(frozen=True, slots=True)
class Panel:
    """A pane with states.

    Attributes:
        module: what the server was started with; None for nothing.
        choices: the deciders, those that fit first.
        decider: the chosen one; None if none fits and none was chosen.
        state: the state, if the pane shows one.
        before, after: the states that are compared, if the pane compares.
        diff: what differs between them; None if that cannot be told.
        with_version, at_version: their versions.
        too_many: how many events would have to be folded; None if they were.
        fault: why there is no state; empty if there is one.
        python: how to load it in Python.
    """

    module: str | None
    choices: Sequence[Choice] = ()
    decider: str | None = None
    state: State | None = None
    before: State | None = None
    after: State | None = None
    diff: DiffNode | None = None
    with_version: int = 0
    at_version: int = 0
    too_many: int | None = None
    fault: str = ""
    python: str = ""


class _NoState(Exception):
    """Why there is no state, as a sentence."""


class _TooMany(Exception):
    def __init__(self, events: int) -> None:
        super().__init__(events)
        self.events = events


class StateQuery(msgspec.Struct, kw_only=True):
    """A state to fold, however many events it has."""

    name: str
    fold: str | None = None
    as_of: str | None = None
    valid_at: str | None = None


@page("GET", "/state", query=StateQuery, seconds=LONG_FOLD)
async def show_state(call: Call[StateQuery, None]) -> Response:
    """Fold all events of a state, one reader at a time, for a minute at most."""
    query = call.query
    info = await readable_stream(call, query.name)
    bound = await as_of_position(call, query.as_of)
    valid_at = None
    if query.valid_at is not None:
        valid_at = (
            moment_of("valid_at", query.valid_at) if query.valid_at != "now" else datetime.now(UTC)
        )
    async with call.request.app.state.folding:
        panel = await state_panel(
            call, info, fold_name=query.fold, as_of=bound.position, valid_at=valid_at, at_most=None
        )
    return rendering.render(
        call.request,
        "state.html",
        title=f"{query.name} · state",
        nav="streams",
        query=query,
        info=info,
        panel=panel,
        times=_Times(bound.position, valid_at),
    )


@dataclass(frozen=True, slots=True)
class _Times:
    as_of: int | None
    valid_at: datetime | None


pages = [show_state]


async def state_panel(
    call: Call[Any, Any],
    info: StreamInfo,
    *,
    fold_name: str | None,
    as_of: int | None,
    valid_at: datetime | None,
    at_most: int | None = MOST,
) -> Panel:
    """Return the pane with the state of a stream at two times.

    Args:
        call: the request.
        info: the stream.
        fold_name: the decider; None for the one that fits best.
        as_of: only events up to this position.
        valid_at: only facts that hold at this moment.
        at_most: the largest number of events that are folded.
    """
    module, choices, decider = await _deciders(call, info, fold_name)
    if module is None:
        return Panel(None)
    if decider is None:
        return Panel(module.name, choices)
    python = _python(info.stream, decider.name, as_of, valid_at)
    try:
        state = await _state(
            call, info, decider, as_of=as_of, valid_at=valid_at, to_version=None, at_most=at_most
        )
    except _NoState as error:
        return Panel(module.name, choices, decider.name, fault=str(error), python=python)
    except _TooMany as error:
        return Panel(module.name, choices, decider.name, too_many=error.events, python=python)
    return Panel(module.name, choices, decider.name, state, python=python)


async def diff_panel(
    call: Call[Any, Any],
    info: StreamInfo,
    *,
    fold_name: str | None,
    valid_at: datetime | None,
    before: int,
    after: int,
) -> Panel:
    """Return the pane that compares the states after two versions of a stream.

    Args:
        call: the request.
        info: the stream.
        fold_name: the decider; None for the one that fits best.
        valid_at: only facts that hold at this moment.
        before: a version; -1 for the initial state.
        after: another one.
    """
    module, choices, decider = await _deciders(call, info, fold_name)
    if module is None:
        return Panel(None)
    if decider is None:
        return Panel(module.name, choices, with_version=before, at_version=after)
    states: list[State] = []
    fault, too_many = "", None
    try:
        for version in (before, after):
            one = await _state(
                call,
                info,
                decider,
                as_of=None,
                valid_at=valid_at,
                to_version=version,
                at_most=MOST,
            )
            states.append(one)
    except _NoState as error:
        fault = str(error)
    except _TooMany as error:
        too_many = error.events
    diff = None
    if len(states) == 2 and all(each.tree and each.tree.root for each in states):
        diff = compare(*(parse(each.json) for each in states))
    return Panel(
        module.name,
        choices,
        decider.name,
        before=states[0] if len(states) == 2 else None,
        after=states[1] if len(states) == 2 else None,
        diff=diff,
        with_version=before,
        at_version=after,
        too_many=too_many,
        fault=fault,
    )


async def _deciders(
    call: Call[Any, Any], info: StreamInfo, chosen: str | None
) -> tuple[FoundModule | None, list[Choice], FoundDecider | None]:
    """Return the deciders, those that fit first, and the one to fold with."""
    module: FoundModule | None = call.request.app.state.module
    if module is None or not module.deciders:
        return None, [], None
    types = await call.store._engine.run(types_of_stream(info.stream))
    ranked = sorted(module.deciders.values(), key=lambda each: -len(each.types & types))
    choices = [Choice(each.name, bool(each.types & types)) for each in ranked]
    if chosen is not None and chosen in module.deciders:
        return module, choices, module.deciders[chosen]
    return module, choices, ranked[0] if choices[0].fits else None


async def _state(
    call: Call[Any, Any],
    info: StreamInfo,
    decider: FoundDecider,
    *,
    as_of: int | None,
    valid_at: datetime | None,
    to_version: int | None,
    at_most: int | None,
) -> State:
    """Fold a state.

    Raises:
        _NoState: it cannot be folded.
        _TooMany: it has too many events.
    """
    try:
        found = await call.store._engine.run(
            fold(
                decider.codec,
                info.stream,
                decider.decider,
                as_of=as_of,
                valid_at=valid_at,
                to_version=to_version,
                at_most=at_most,
            )
        )
    except StreamErased as error:
        when = "" if info.erased_at is None else f" on {formats.moment(info.erased_at)}"
        raise _NoState(
            f"Data of this stream was erased{when}, first that of version {error.version:,}: there"
            " is no state to fold."
        ) from error
    except FoldFailed as error:
        place = (
            "before the first event" if error.version is None else f"at version {error.version:,}"
        )
        raise _NoState(
            f"{decider.name} failed {place}: {type(error.error).__name__}:"
            f" {_text_of(error.error)[:500]}"
        ) from error
    except _UNREADABLE as error:
        raise _NoState(f"{error}.") from error
    if isinstance(found, NotFolded):
        raise _TooMany(found.events)
    return _shown(found.state, found.version)


def _shown(state: Any, version: int) -> State:
    try:
        json = _encoded(_members_of(state) if isinstance(state, Aggregate) else state)
    except Exception:  # the state has no JSON, or its class raised an error
        return State(version, None, _text_of(state, repr)[:_SHOWN_TEXT], b"")
    return State(version, tree(json), "", json)


def _members_of(aggregate: Aggregate[Any]) -> dict[str, Any]:
    """The attributes of an aggregate: those that its class annotates, then others that it has."""
    try:
        hints = get_type_hints(type(aggregate))
    except Exception:  # an annotation that cannot be evaluated
        hints = {}
    names = [name for name, hint in hints.items() if get_origin(hint) is not ClassVar]
    names += [name for name in vars(aggregate) if name not in names]
    return {
        name: getattr(aggregate, name)
        for name in names
        if not name.startswith("_") and name not in _NOT_SHOWN and hasattr(aggregate, name)
    }


_NOT_SHOWN = frozenset({"version", "stored", "snapshots"})


def _encoded(state: Any) -> bytes:
    """Encode a state; what has no JSON inside of it becomes text.

    Raises:
        TypeError: the state itself has no JSON.
    """

    def other(value: Any) -> Any:
        if is_pydantic(type(value)):
            return msgspec.Raw(value.model_dump_json().encode())
        if value is state:
            raise TypeError
        return _text_of(value, repr)[:_SHOWN_TEXT]

    return msgspec.json.encode(state, enc_hook=other)


def _text_of(value: object, write: Any = str) -> str:
    try:
        return str(write(value))
    except Exception as error:
        return f"a {type(value).__name__} that cannot be written ({type(error).__name__})"


def _python(stream: str, decider: str, as_of: int | None, valid_at: datetime | None) -> str:
    parts = [repr(stream), decider]
    if as_of is not None:
        parts.append(f"as_of={as_of}")
    if valid_at is not None:
        parts.append(f"valid_at=datetime.fromisoformat({formats.exact(valid_at)!r})")
    return f"store.load({', '.join(parts)})"
