"""Consumer groups: how far they are, what they have parked, and what an operator may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.consumer_groups import AsyncGroup, GroupInfo, ParkedEvent
from indelible.errors import GroupNotFound
from indelible.server.groups import allowed_group, may, start_of
from indelible.server.problems import Problem
from indelible.server.routing import EVENT_STREAM, Call

from . import confirm, formats, rendering
from .addresses import address
from .live import Message, follow
from .page import not_here, page, see
from .rights import changed

PARKED = 50
_SEEING = (Verb.READ, Verb.CONSUME, Verb.MANAGE)
_FAR = 100_000
"""A lag is looked at up to so many positions: more is shown as more."""
_SECONDS = 5.0
_DONE = {"replayed", "discarded", "reset", "deleted", "none-chosen"}
_ACTING = 30.0
"""Seconds that an action may take: it may touch all parked events."""


class GroupsQuery(msgspec.Struct, kw_only=True):
    """What was done, to tell it."""

    done: str | None = None


class GroupQuery(msgspec.Struct, kw_only=True):
    """The group, and what to show of it."""

    name: str
    tab: Literal["lag", "workers", "parked", "settings"] = "parked"
    stream: str | None = None
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    done: str | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A group with the words of its state.

    Attributes:
        info: the group.
        kind: the kind of its state, for `kit.state`.
        word: the state in a word.
        lag: how many events it has not handled, in words.
    """

    info: GroupInfo
    kind: str
    word: str
    lag: str


def shown(info: GroupInfo) -> Shown:
    """Return a group with the words of its state."""
    if info.parked:
        kind, word = "attention", f"{formats.number(info.parked)} parked"
    elif not info.workers:
        kind, word = ("stopped", "no worker") if info.lag_events else ("idle", "no worker")
    elif info.lag_events:
        kind, word = "working", "catching up"
    else:
        kind, word = "ok", "caught up"
    lag = formats.number(info.lag_events) if info.lag_events <= _FAR else "> 100,000 positions"
    return Shown(info, kind, word, lag)


async def readable_groups(call: Call[Any, Any]) -> list[Shown]:
    """Return the groups that the reader may see, the worst first."""
    return worst_first(
        shown(info) for info in await call.store.groups() if may(call, info.settings.query)
    )


def worst_first(groups: Iterable[Shown]) -> list[Shown]:
    """Return groups, those that need attention first."""
    order = ("attention", "stopped", "working", "idle", "ok")
    return sorted(
        groups,
        key=lambda each: (order.index(each.kind), -each.info.lag_events, each.info.name),
    )


@page("GET", "/groups", query=GroupsQuery)
async def show_groups(call: Call[GroupsQuery, None]) -> Response:
    """List the consumer groups. Of each, at most 100,000 positions of its lag are looked at."""
    return rendering.render(
        call.request,
        "groups.html",
        title="Consumer groups",
        nav="groups",
        groups=await readable_groups(call),
        done=call.query.done if call.query.done in _DONE else None,
    )


@page("GET", "/group", query=GroupQuery)
async def show_group(call: Call[GroupQuery, None]) -> Response:
    """Show a consumer group, with at most 50 of its parked events."""
    query = call.query
    group = await _seen(call, query.name)
    info = await group.info()
    parked: Sequence[ParkedEvent] = ()
    if query.tab == "parked":
        parked = await group.parked(stream=query.stream, after=query.after, limit=PARKED + 1)
    return rendering.render(
        call.request,
        "group.html",
        title=f"{query.name} · consumer group",
        nav="groups",
        query=query,
        group=shown(info),
        parked=parked[:PARKED],
        has_more=len(parked) > PARKED,
        lags=call.request.app.state.sampler.lags(query.name),
        may_manage=may(call, info.settings.query, Verb.MANAGE),
        done=query.done if query.done in _DONE else None,
    )


@page("GET", "/live/groups", media_types=(EVENT_STREAM,))
async def follow_groups(call: Call[Any, None]) -> Response:
    """Tell the numbers of the list again and again, while somebody looks."""

    async def messages() -> AsyncIterator[Message]:
        while True:
            found = await readable_groups(call)
            yield Message(
                "groups",
                {
                    each.info.name: {
                        "lag": each.lag,
                        "oldest": formats.duration(each.info.lag_seconds)
                        if each.info.lag_events
                        else "–",
                        "parked": formats.number(each.info.parked),
                        "workers": formats.number(len(each.info.workers)),
                        "kind": each.kind,
                        "word": each.word,
                    }
                    for each in found
                },
            )
            await asyncio.sleep(_SECONDS)

    return follow(call, messages())


class Selection(msgspec.Struct, kw_only=True):
    """A group, and the parked events to act on: some positions, or all.

    Attributes:
        name: the group.
        position: the positions; none for all parked events.
        chosen: whether the reader was to choose: then no position means that nothing was chosen.
    """

    name: str
    position: Annotated[list[int], msgspec.Meta(max_length=PARKED)] = msgspec.field(
        default_factory=list
    )
    chosen: bool = False


class ParkedForm(msgspec.Struct, kw_only=True):
    """The parked events to act on, and how many there were when the reader looked."""

    name: str
    parked: int
    positions: str = ""
    typed: str = ""
    reason: str = ""


class ResetForm(msgspec.Struct, kw_only=True):
    """A group to reset, and how far it was when the reader looked."""

    name: str
    checkpoint: int
    typed: str = ""
    to: str = ""


class DeleteForm(msgspec.Struct, kw_only=True):
    """A group to delete, and how many parked events it had when the reader looked."""

    name: str
    parked: int
    typed: str = ""


@page("GET", "/group/replay", query=Selection)
async def confirm_replay(call: Call[Selection, None]) -> Response:
    """Ask whether to replay parked events."""
    group, info = await _manageable(call, call.query.name)
    positions = call.query.position
    if call.query.chosen and not positions:
        return see("/group", name=group.name, tab="parked", done="none-chosen")
    what = _what(info, positions)
    return confirm.ask(
        call,
        f"Replay {what}",
        "/group/replay",
        f"The workers of {group.name} get {what} again, with the attempts counted from 1. What"
        " waits behind follows in order.",
        verb="Replay",
        seen={"name": group.name, "parked": info.parked},
        positions=positions,
        back=_back(group.name),
        nav="groups",
    )


@page("POST", "/group/replay", body=ParkedForm, seconds=_ACTING)
async def replay(call: Call[Any, ParkedForm]) -> Response:
    """Replay parked events."""
    form = call.body
    group, info = await _manageable(call, form.name)
    _check_parked(info, form.parked)
    positions = _positions(form.positions)
    if not positions:
        count = await group.replay()
    else:
        count = sum([await group.replay(position=each) for each in positions])
    _check_any(form.name, count)
    return see("/group", name=form.name, tab="parked", done="replayed", count=count)


@page("GET", "/group/discard", query=Selection)
async def confirm_discard(call: Call[Selection, None]) -> Response:
    """Ask whether to discard parked events."""
    group, info = await _manageable(call, call.query.name)
    positions = call.query.position
    if call.query.chosen and not positions:
        return see("/group", name=group.name, tab="parked", done="none-chosen")
    what = _what(info, positions)
    return confirm.ask(
        call,
        f"Discard {what}",
        "/group/discard",
        f"{group.name} never handles {what}. What waits behind follows in order. The events stay in"
        " the log.",
        "This cannot be undone for this group.",
        verb="Discard",
        seen={"name": group.name, "parked": info.parked},
        positions=positions,
        type_name=None if len(positions) == 1 else group.name,
        is_danger=True,
        back=_back(group.name),
        nav="groups",
    )


@page("POST", "/group/discard", body=ParkedForm, seconds=_ACTING)
async def discard(call: Call[Any, ParkedForm]) -> Response:
    """Discard parked events."""
    form = call.body
    group, info = await _manageable(call, form.name)
    positions = _positions(form.positions)
    if len(positions) != 1:
        confirm.check_typed(form.name, form.typed)
    _check_parked(info, form.parked)
    if not positions:
        count = await group.discard()
    else:
        count = sum([await group.discard(position=each) for each in positions])
    _check_any(form.name, count)
    return see("/group", name=form.name, tab="parked", done="discarded", count=count)


@page("GET", "/group/reset", query=Selection)
async def confirm_reset(call: Call[Selection, None]) -> Response:
    """Ask where to move a group."""
    group, info = await _manageable(call, call.query.name)
    return rendering.render(
        call.request,
        "group_reset.html",
        title=f"Reset {group.name}",
        nav="groups",
        group=shown(info),
        back=_back(group.name),
    )


@page("POST", "/group/reset", body=ResetForm, seconds=_ACTING)
async def reset(call: Call[Any, ResetForm]) -> Response:
    """Move a group."""
    form = call.body
    group, info = await _manageable(call, form.name)
    confirm.check_typed(form.name, form.typed)
    _check_checkpoint(info, form.checkpoint)
    await group.reset(await start_of(call, "to", form.to))
    return see("/group", name=form.name, tab="lag", done="reset")


@page("GET", "/group/delete", query=Selection)
async def confirm_delete(call: Call[Selection, None]) -> Response:
    """Ask whether to delete a group."""
    group, info = await _manageable(call, call.query.name)
    return confirm.ask(
        call,
        f"Delete {group.name}",
        "/group/delete",
        f"The group ends, with its progress (checkpoint {formats.number(info.checkpoint)}) and its"
        f" {formats.plural(info.parked, 'parked event')}. The events stay in the log.",
        "This cannot be undone.",
        verb="Delete",
        seen={"name": group.name, "parked": info.parked},
        type_name=group.name,
        back=_back(group.name),
        nav="groups",
    )


@page("POST", "/group/delete", body=DeleteForm, seconds=_ACTING)
async def delete(call: Call[Any, DeleteForm]) -> Response:
    """Delete a group."""
    form = call.body
    group, info = await _manageable(call, form.name)
    confirm.check_typed(form.name, form.typed)
    _check_parked(info, form.parked)
    await group.delete()
    return see("/groups", done="deleted")


pages = [
    show_groups,
    show_group,
    follow_groups,
    confirm_replay,
    replay,
    confirm_discard,
    discard,
    confirm_reset,
    reset,
    confirm_delete,
    delete,
]


async def _seen(call: Call[Any, Any], name: str) -> AsyncGroup[Any]:
    try:
        group = await allowed_group(call, name, *_SEEING)
        await group.info()
    except GroupNotFound:
        raise not_here(f"No consumer group “{name}”.") from None
    return group


async def _manageable(call: Call[Any, Any], name: str) -> tuple[AsyncGroup[Any], GroupInfo]:
    group = await _seen(call, name)
    info = await group.info()
    if not may(call, info.settings.query, Verb.MANAGE):
        raise Problem(403, "forbidden", "Your token may look at this group, and not change it.")
    return group, info


def _back(name: str) -> str:
    return address("/group", name=name, tab="parked")


def _what(info: GroupInfo, positions: Sequence[int]) -> str:
    if len(positions) == 1:
        return f"the parked event at position {formats.number(positions[0])}"
    if positions:
        return f"{formats.number(len(positions))} parked events"
    return f"all {formats.plural(info.parked, 'parked event')}"


def _positions(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",", PARKED) if each]
    except ValueError:
        raise Problem(
            422, "invalid-input", "positions must be numbers", field="positions"
        ) from None


def _check_parked(info: GroupInfo, seen: int) -> None:
    if info.parked != seen:
        is_one = info.parked == 1
        raise changed(
            f"{formats.number(info.parked)} {'is' if is_one else 'are'} parked now,"
            f" {formats.number(seen)} when you looked.",
            again=_back(info.name),
        )


def _check_any(name: str, count: int) -> None:
    if not count:
        raise changed("What you chose is no longer parked.", again=_back(name))


def _check_checkpoint(info: GroupInfo, seen: int) -> None:
    if info.checkpoint != seen:
        raise changed(
            f"The checkpoint is {formats.number(info.checkpoint)} now, and was"
            f" {formats.number(seen)} when you looked. Stop the workers of the group first.",
            again=_back(info.name),
        )
