"""Projections: how far their builds are, what they leave out, and their documents."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.errors import ProjectionNotFound, ProjectionNotReady
from indelible.projections import BuildInfo, ProjectionStatus, document_queries, rebuild
from indelible.projections.admin_operations import left_out
from indelible.projections.document_queries import DocumentPage, StoredDocuments
from indelible.server.problems import Problem
from indelible.server.projections import may
from indelible.server.routing import EVENT_STREAM, Call

from . import confirm, formats, json_tree, rendering
from .addresses import address
from .live import Message, follow
from .page import not_here, page, see
from .rights import changed

SHOWN = 50
"""Left-out events, or documents, on a page."""
_FAR = 100_000
"""A lag is looked at up to so many positions: more is shown as more."""
_LONGEST_LINE = 300
_SECONDS = 5.0
_SECONDS_OF_ONE = 1.0
_AVERAGED = 10.0
_DONE = {"rebuild", "restarted", "discarded", "dropped"}


class ProjectionsQuery(msgspec.Struct, kw_only=True):
    """What was done, to tell it."""

    done: str | None = None


class ProjectionQuery(msgspec.Struct, kw_only=True):
    """The projection, and what to show of it."""

    name: str
    version: int | None = None
    tab: Literal["builds", "left-out", "documents"] = "builds"
    key: str | None = None
    after: str | None = None
    field: str | None = None
    value: str | None = None
    done: str | None = None
    count: int | None = None

    def link(self, **others: Any) -> str:
        """Return the address of the page with other parameters."""
        given: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "tab": self.tab,
            "field": self.field,
            "value": self.value,
            "after": self.after,
        }
        return address("/projection", **{**given, **others})


@dataclass(frozen=True, slots=True)
class Shown:
    """A build with the words of its state.

    Attributes:
        status: the build.
        kind: the kind of its state, for `kit.state`.
        word: the state in a word.
        lag: how many events it has not handled, in words.
        rate: how many events it handles per second, in words.
        share: how much of the log a build that is not serving yet has handled, from 0 to 1.
    """

    status: ProjectionStatus
    kind: str
    word: str
    lag: str
    rate: str
    share: float

    @property
    def build(self) -> BuildInfo:
        """The build."""
        return self.status.build


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document of a list: its key, and the beginning of its JSON."""

    key: str
    line: str


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents of a version, in order of key, and how current they are.

    Attributes:
        build: the build that serves the version.
        found: the documents.
        next: the key after which there are more; None at the end.
        tree: the one document that was asked for; None for a list, or if there is none.
        stream: the stream whose name is the key; None without one that the reader may read.
        checkpoint: they include all events up to here.
        behind: how many positions that is behind the head.
    """

    build: BuildInfo
    found: Sequence[FoundDocument]
    next: str | None
    tree: json_tree.Tree | None
    stream: str | None
    checkpoint: int
    behind: int


def shown(status: ProjectionStatus, head: int) -> Shown:
    """Return a build with the words of its state."""
    build = status.build
    parts = len(build.partitions)
    if status.stopped:
        word = "stopped" if parts == 1 else f"{status.stopped} of {parts} partitions stopped"
        kind = "stopped"
    elif status.errors:
        kind, word = "attention", "failing, tries again"
    elif build.state == "building":
        kind, word = ("working", "building") if status.workers else ("attention", "no worker")
    elif status.parked:
        kind, word = "attention", f"serving, {formats.number(status.parked)} left out"
    elif build.lifecycle == "inline":
        kind, word = "ok", "serving, inline"
    elif not status.workers and status.lag_events:
        kind, word = "attention", "serving, no worker"
    else:
        kind, word = "ok", "serving"
    return Shown(
        status,
        kind,
        word,
        formats.number(status.lag_events) if status.lag_events < _FAR else "> 100,000",
        f"{formats.number(round(status.events_per_second))} /s" if status.workers else "–",
        min(1.0, build.checkpoint / head) if head else 1.0,
    )


async def readable_projections(call: Call[Any, Any]) -> list[Shown]:
    """Return the builds that the reader may see, the worst first.

    Of the lag of each, at most 100,000 positions are looked at.
    """
    head = await call.store.head()
    return worst_first(
        shown(status, head)
        for status in await call.store.projection_statuses()
        if may(call, status.build.query)
    )


def worst_first(builds: Iterable[Shown]) -> list[Shown]:
    """Return builds, those that need attention first."""
    order = ("stopped", "attention", "working", "ok")
    return sorted(
        builds, key=lambda each: (order.index(each.kind), each.build.name, -each.build.version)
    )


@page("GET", "/projections", query=ProjectionsQuery)
async def show_projections(call: Call[ProjectionsQuery, None]) -> Response:
    """List the builds. Of the lag of each, at most 100,000 positions are looked at."""
    return rendering.render(
        call.request,
        "projections.html",
        title="Projections",
        nav="projections",
        builds=await readable_projections(call),
        done=call.query.done if call.query.done in _DONE else None,
    )


@page("GET", "/projection", query=ProjectionQuery)
async def show_projection(call: Call[ProjectionQuery, None]) -> Response:
    """Show a projection: its builds, and at most 50 left-out events or documents."""
    query = call.query
    builds, _ = await _seen(call, query.name)
    readable = [each.build for each in builds if may(call, each.build.query, Verb.READ)]
    tab, skipped, documents, wait = query.tab, [], None, ""
    if tab == "left-out":
        versions = {each.build.version for each in builds}
        skipped = [
            each
            for each in await call.store._engine.run(left_out(query.name, SHOWN + 1))
            if each.version in versions
        ]
    elif tab == "documents":
        build = _chosen(readable, query.version)
        try:
            documents = await _documents(call, build)
        except ProjectionNotReady:
            wait = f"Version {build.version} is being built. Its documents are here when it serves."
    serving = next((each for each in builds if each.build.state == "serving"), builds[0])
    return rendering.render(
        call.request,
        "projection.html",
        title=f"{query.name} · projection",
        nav="projections",
        query=query,
        builds=builds,
        left_out=sum(each.status.parked for each in builds),
        skipped=skipped[:SHOWN],
        has_more=len(skipped) > SHOWN,
        documents=documents,
        wait=wait,
        has_documents=any(build.kind == "documents" for build in readable),
        lags=call.request.app.state.sampler.lags(serving.build.id),
        may_manage=_may_manage(call, builds),
        done=query.done if query.done in _DONE else None,
    )


@page("GET", "/live/projections", query=ProjectionsQuery, media_types=(EVENT_STREAM,))
async def follow_projections(call: Call[Any, None]) -> Response:
    """Tell the numbers of the list again and again, while somebody looks."""

    async def messages() -> AsyncIterator[Message]:
        while True:
            yield Message(
                "projections",
                {str(each.build.id): _numbers(each) for each in await readable_projections(call)},
            )
            await asyncio.sleep(_SECONDS)

    return follow(call, messages())


class OneQuery(msgspec.Struct, kw_only=True):
    """The projection to follow."""

    name: str


@page("GET", "/live/projection", query=OneQuery, media_types=(EVENT_STREAM,))
async def follow_projection(call: Call[OneQuery, None]) -> Response:
    """Tell how far the builds of a projection are, every second, while somebody looks."""
    await _seen(call, call.query.name)
    paces: dict[int, Pace] = {}

    async def messages() -> AsyncIterator[Message]:
        while True:
            try:
                builds, head = await _seen(call, call.query.name)
            except Problem:
                builds, head = [], 0  # it was dropped
            told = {}
            for each in builds:
                build = each.build
                handled = sum(part.handled for part in build.partitions)
                pace = paces.setdefault(build.id, Pace())
                pace.add(monotonic(), build.checkpoint, handled)
                told[str(build.id)] = {
                    **_numbers(each),
                    "state": build.state,
                    "progress": pace.sentence(each.share, head - build.checkpoint),
                    "share": round(each.share, 4),
                }
            yield Message("projections", told)
            await asyncio.sleep(_SECONDS_OF_ONE)

    return follow(call, messages())


class Pace:
    """How fast a build is, over the last 10 seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, at: float, position: int, handled: int) -> None:
        """Take what was seen at a time in seconds."""
        self._seen.append((at, position, handled))
        while at - self._seen[0][0] > _AVERAGED:
            self._seen.popleft()

    def sentence(self, share: float, left: int) -> str:
        """Return the progress in words. The first 5 seconds tell no speed: it would be wrong.

        Args:
            share: how much is done, from 0 to 1.
            left: how many positions are left.
        """
        words = [percent(share)]
        began, position, handled = self._seen[0]
        ended, now, handled_now = self._seen[-1]
        if ended - began >= _AVERAGED / 2:
            seconds = ended - began
            words.append(f"{formats.number(round((handled_now - handled) / seconds))} events/s")
            if now > position:
                words.append(f"about {formats.duration(left * seconds / (now - position))} left")
        return ", ".join(words)


def percent(share: float) -> str:
    """Return a share as text. It is 100 % only if nothing is left."""
    return f"{int(share * 100)} %"


class ActionQuery(msgspec.Struct, kw_only=True):
    """The projection to act on: a version, or a left-out event; None for all."""

    name: str
    version: int | None = None
    position: int | None = None


class RestartForm(msgspec.Struct, kw_only=True):
    """How many partitions were stopped when the reader looked."""

    name: str
    stopped: int


class BuildForm(msgspec.Struct, kw_only=True):
    """The builds of the version when the reader looked."""

    name: str
    version: int
    builds: str
    typed: str = ""


class DiscardForm(msgspec.Struct, kw_only=True):
    """The left-out events to discard, and how many there were when the reader looked."""

    name: str
    left_out: int
    position: int | None = None
    typed: str = ""


@page("GET", "/projection/rebuild", query=ActionQuery)
async def confirm_rebuild(call: Call[ActionQuery, None]) -> Response:
    """Ask whether to rebuild a version."""
    builds, head = await _manageable(call, call.query.name)
    build = _chosen([each.build for each in builds], call.query.version)
    return confirm.ask(
        call,
        f"Rebuild {build.name}, version {build.version}",
        "/projection/rebuild",
        f"A new build starts from the beginning of the log: {formats.number(head)} positions. The"
        " one that serves stays until the new one has caught up, and then they change places in one"
        " transaction.",
        "The processes that have its code build it: indelible run, or a daemon. Without one it"
        " waits.",
        verb="Rebuild",
        seen={"name": build.name, "version": build.version, "builds": _ids(builds, build.version)},
        back=_back(build.name),
        nav="projections",
    )


@page("POST", "/projection/rebuild", body=BuildForm)
async def start_rebuild(call: Call[Any, BuildForm]) -> Response:
    """Begin a rebuild."""
    form = call.body
    builds, _ = await _manageable(call, form.name)
    _check_builds(builds, form)
    await call.store._engine.run(rebuild.order(form.name, form.version))
    return see("/projection", name=form.name, done="rebuild")


@page("GET", "/projection/restart", query=ActionQuery)
async def confirm_restart(call: Call[ActionQuery, None]) -> Response:
    """Ask whether to restart the stopped partitions."""
    builds, _ = await _manageable(call, call.query.name)
    stopped = _stopped(builds)
    parts = formats.plural(stopped, "stopped partition")
    return confirm.ask(
        call,
        f"Restart {call.query.name}",
        "/projection/restart",
        f"{parts} {'continues' if stopped == 1 else 'continue'} from"
        f" {'its' if stopped == 1 else 'their'} checkpoint, with the event at which"
        f" {'it' if stopped == 1 else 'they'} failed. If the code still fails at it,"
        f" {'it stops' if stopped == 1 else 'they stop'} again.",
        verb="Restart",
        seen={"name": call.query.name, "stopped": stopped},
        back=_back(call.query.name),
        nav="projections",
    )


@page("POST", "/projection/restart", body=RestartForm)
async def restart(call: Call[Any, RestartForm]) -> Response:
    """Restart the stopped partitions."""
    form = call.body
    builds, _ = await _manageable(call, form.name)
    if (stopped := _stopped(builds)) != form.stopped:
        raise changed(
            f"{formats.plural(stopped, 'partition is', 'partitions are')} stopped now,"
            f" {formats.number(form.stopped)} when you looked. Look at the projection again."
        )
    count = await call.store.projection(form.name).restart()
    return see("/projection", name=form.name, done="restarted", count=count)


@page("GET", "/projection/discard", query=ActionQuery)
async def confirm_discard(call: Call[ActionQuery, None]) -> Response:
    """Ask whether to discard left-out events."""
    query = call.query
    builds, _ = await _manageable(call, query.name)
    count = _left_out(builds)
    what = (
        f"all {formats.plural(count, 'left-out event')}"
        if query.position is None
        else f"the left-out event at position {formats.number(query.position)}"
    )
    seen = {"name": query.name, "left_out": count}
    if query.position is not None:
        seen["position"] = query.position
    return confirm.ask(
        call,
        f"Discard {what}",
        "/projection/discard",
        f"The list of {query.name} does not show {what} any more. The state stays without"
        f" {'it' if query.position is not None or count == 1 else 'them'}. A rebuild tries again,"
        " from the log.",
        verb="Discard",
        seen=seen,
        type_name=query.name if query.position is None and count > 1 else None,
        is_danger=True,
        back=_back(query.name, "left-out"),
        nav="projections",
    )


@page("POST", "/projection/discard", body=DiscardForm)
async def discard(call: Call[Any, DiscardForm]) -> Response:
    """Discard left-out events."""
    form = call.body
    builds, _ = await _manageable(call, form.name)
    if (count := _left_out(builds)) != form.left_out:
        raise changed(
            f"{formats.plural(count, 'event is', 'events are')} left out now,"
            f" {formats.number(form.left_out)} when you looked. Look at the projection again."
        )
    if form.position is None and count > 1:
        confirm.check_typed(form.name, form.typed)
    done = await call.store.projection(form.name).discard(form.position)
    return see("/projection", name=form.name, tab="left-out", done="discarded", count=done)


@page("GET", "/projection/drop", query=ActionQuery)
async def confirm_drop(call: Call[ActionQuery, None]) -> Response:
    """Ask whether to drop a version."""
    builds, _ = await _manageable(call, call.query.name)
    build = _chosen([each.build for each in builds], call.query.version)
    return confirm.ask(
        call,
        f"Drop {build.name}, version {build.version}",
        "/projection/drop",
        f"Version {build.version} ends, with its documents. Code of this version can no longer read"
        " it. If that code runs again, it starts from the beginning.",
        *(
            ["This version serves readers now."]
            if any(
                each.build.state == "serving" and each.build.version == build.version
                for each in builds
            )
            else []
        ),
        "This cannot be undone. The events stay in the log.",
        verb="Drop",
        seen={"name": build.name, "version": build.version, "builds": _ids(builds, build.version)},
        type_name=build.name,
        back=_back(build.name),
        nav="projections",
    )


@page("POST", "/projection/drop", body=BuildForm)
async def drop(call: Call[Any, BuildForm]) -> Response:
    """Drop a version."""
    form = call.body
    builds, _ = await _manageable(call, form.name)
    confirm.check_typed(form.name, form.typed)
    _check_builds(builds, form)
    await call.store.projection(form.name).drop(form.version)
    if any(each.build.version != form.version for each in builds):
        return see("/projection", name=form.name, done="dropped")
    return see("/projections", done="dropped")


pages = [
    show_projections,
    show_projection,
    follow_projections,
    follow_projection,
    confirm_rebuild,
    start_rebuild,
    confirm_restart,
    restart,
    confirm_discard,
    discard,
    confirm_drop,
    drop,
]


async def _seen(call: Call[Any, Any], name: str) -> tuple[list[Shown], int]:
    """Return the builds of a projection that the reader may see, and the head."""
    head = await call.store.head()
    try:
        statuses = await call.store.projection(name).status()
    except ProjectionNotFound:
        statuses = []
    found = [shown(status, head) for status in statuses if may(call, status.build.query)]
    if not found:
        raise not_here(f"No projection “{name}”.")
    return sorted(found, key=lambda each: (-each.build.version, -each.build.id)), head


async def _manageable(call: Call[Any, Any], name: str) -> tuple[list[Shown], int]:
    builds, head = await _seen(call, name)
    if not _may_manage(call, builds):
        raise Problem(
            403, "forbidden", "Your token may look at this projection, and not change it."
        )
    # The actions are for all builds of the name, also for those that the reader does not see.
    if len(await call.store.projections(name)) != len(builds):
        raise Problem(
            403, "forbidden", "Your token may not manage all versions of this projection."
        )
    return builds, head


def _may_manage(call: Call[Any, Any], builds: Sequence[Shown]) -> bool:
    return all(may(call, each.build.query, Verb.MANAGE) for each in builds)


def _chosen(builds: Sequence[BuildInfo], version: int | None) -> BuildInfo:
    """Return the build of a version: the serving one, of the newest version that serves."""
    candidates = [build for build in builds if version in (None, build.version)]
    if not candidates:
        what = "No version" if version is None else f"No version {version}"
        raise not_here(f"{what} of this projection.")
    return max(candidates, key=lambda build: (build.state == "serving", build.version))


async def _documents(call: Call[ProjectionQuery, None], build: BuildInfo) -> Documents:
    """Return the documents that the reader asks for: one by its key, or at most 50."""
    query = call.query
    if build.kind != "documents":
        raise not_here("This projection has no documents: its state is in tables or elsewhere.")
    source = StoredDocuments(build.name, build.version, build.indexes)
    run = call.store._engine.run
    read: DocumentPage[msgspec.Raw]
    if query.key is not None:
        read = await run(document_queries.read_documents(source, [query.key]))
        document = read.documents.get(query.key)
        return Documents(
            build,
            (),
            None,
            None if document is None else json_tree.tree(bytes(document)),
            await _stream(call, query.key),
            read.checkpoint,
            max(0, read.head - read.checkpoint),
        )
    read = await run(
        document_queries.find_documents(
            source, _fields(query, build), after=query.after, limit=SHOWN + 1
        )
    )
    found = [FoundDocument(key, _line(document)) for key, document in read.items()][:SHOWN]
    return Documents(
        build,
        found,
        found[-1].key if len(read) > SHOWN else None,
        None,
        None,
        read.checkpoint,
        max(0, read.head - read.checkpoint),
    )


def _fields(query: ProjectionQuery, build: BuildInfo) -> Mapping[str, Any] | None:
    """Return the field to find documents by. It has an index; others would read all documents."""
    if query.field is None or query.value is None:
        return None
    if query.field not in build.indexes:
        raise Problem(
            422,
            "invalid-input",
            f"“{query.field}” has no index in version {build.version}: documents are found by"
            f" {', '.join(build.indexes) or 'their key only'}.",
            field="field",
        )
    try:
        value = msgspec.json.decode(query.value)
    except msgspec.DecodeError:
        value = query.value
    return {query.field: value}


async def _stream(call: Call[Any, Any], name: str) -> str | None:
    """Return the name of a stream if the reader may read it."""
    channels = call.principal.channels(Verb.READ, name)
    if channels is not None and not channels:
        return None
    found = await call.store.stream(name)
    if found is None or (channels is not None and found.channel not in channels):
        return None
    return name


def _line(document: msgspec.Raw) -> str:
    text = bytes(document)[: 4 * _LONGEST_LINE].decode(errors="ignore")
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"


def _numbers(each: Shown) -> dict[str, Any]:
    return {
        "lag": each.lag,
        "rate": each.rate,
        "left-out": formats.number(each.status.parked),
        "checkpoint": formats.number(each.build.checkpoint),
        "kind": each.kind,
        "word": each.word,
    }


def _back(name: str, tab: str | None = None) -> str:
    return address("/projection", name=name, tab=tab)


def _stopped(builds: Sequence[Shown]) -> int:
    return sum(each.status.stopped for each in builds)


def _left_out(builds: Sequence[Shown]) -> int:
    return sum(each.status.parked for each in builds)


def _ids(builds: Sequence[Shown], version: int) -> str:
    return ",".join(
        str(number)
        for number in sorted(each.build.id for each in builds if each.build.version == version)
    )


def _check_builds(builds: Sequence[Shown], form: BuildForm) -> None:
    if _ids(builds, form.version) != form.builds:
        raise changed(
            f"Version {form.version} has other builds than when you looked. Look at the projection"
            " again."
        )
