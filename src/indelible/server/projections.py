"""The routes for projections: status, rebuild, and their documents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from indelible import InvalidInput, Query
from indelible.access import Verb
from indelible.errors import ProjectionNotFound
from indelible.projections import BuildInfo, ProjectionStatus, document_queries, rebuild
from indelible.projections.document_queries import DocumentPage, StoredDocuments

from . import wire
from .paging import DEFAULT_PAGE, LARGEST_PAGE, links_of
from .problems import Problem, forbidden
from .routing import Call, answer, route

Version = Annotated[
    int, msgspec.Meta(ge=1, description="The version of the projection; by default the newest.")
]


class PartitionAnswer(msgspec.Struct):
    """A partition of a build."""

    partition: int
    position: wire.Number
    owner: str | None
    expires_at: datetime | None
    handled: wire.Number
    is_stopped: bool
    error: str | None
    error_position: wire.Number | None


class BuildAnswer(msgspec.Struct):
    """A build of a projection: the serving one, or one that is built next to it."""

    build: wire.Number
    projection: str
    version: int
    kind: str
    lifecycle: str
    state: str
    checkpoint: wire.Number
    lag_events: wire.Number
    lag_seconds: float
    events_per_second: float
    parked: wire.Number
    workers: int
    errors: int
    stopped: int
    partitions: list[PartitionAnswer]


class RebuildForm(wire.Fields):
    """Which version is rebuilt."""

    version: Version | None = None


class RebuildAnswer(msgspec.Struct):
    """The rebuild that has begun, or continues."""

    build: wire.Number
    projection: str
    version: int
    checkpoint: wire.Number


class DocumentPart(msgspec.Struct, kw_only=True):
    """The parameters of one document."""

    version: Version | None = None


class DocumentsPart(DocumentPart, kw_only=True):
    """The parameters that select documents."""

    where: (
        Annotated[
            str,
            msgspec.Meta(description='Values by field, as JSON, which must match: {"open": true}.'),
        ]
        | None
    ) = None
    key: Annotated[list[str], msgspec.Meta(description="Only documents with these keys.")] = (
        msgspec.field(default_factory=list)
    )
    after: Annotated[str, msgspec.Meta(description="Only keys after this one.")] | None = None
    limit: (
        Annotated[
            int, msgspec.Meta(ge=1, le=LARGEST_PAGE, description="At most so many documents.")
        ]
        | None
    ) = None


class DocumentAnswer(msgspec.Struct):
    """A document, and how current it is: it includes all events up to the checkpoint."""

    key: str
    document: Any
    checkpoint: wire.Number
    head: wire.Number


class FoundDocument(msgspec.Struct):
    """A document of a page."""

    key: str
    document: Any


class DocumentsAnswer(msgspec.Struct):
    """Documents in order of key, and how current they are."""

    documents: list[FoundDocument]
    checkpoint: wire.Number
    head: wire.Number
    links: wire.Links


@route("GET", "/projections", "projections", answer=list[BuildAnswer])
async def list_projections(call: Call[Any, None]) -> Response:
    """List the builds of the projections whose events one may read or manage."""
    found = await call.store.projection_statuses()
    return answer([_build_answer(status) for status in found if may(call, status.build.query)])


@route("GET", "/projections/{projection}", "projections", answer=list[BuildAnswer])
async def show_projection(call: Call[Any, None]) -> Response:
    """Show the builds of a projection: state, checkpoint, lag, speed, workers and errors."""
    await build_of(call, call.path["projection"], None, Verb.READ, Verb.MANAGE)
    found = await call.store.projection(call.path["projection"]).status()
    return answer([_build_answer(status) for status in found if may(call, status.build.query)])


@route(
    "POST",
    "/projections/{projection}/rebuild",
    "projections",
    body=RebuildForm,
    answer=RebuildAnswer,
    status=202,
    example={"version": 1},
)
async def rebuild_projection(call: Call[Any, RebuildForm]) -> Response:
    """Rebuild a projection beside the serving build.

    The server does not have its code. The daemons that have it build the projection, and then cut
    over in one transaction. Ask for the status to see the progress.
    """
    build = await build_of(call, call.path["projection"], call.body.version, Verb.MANAGE)
    ordered = await call.store._engine.run(rebuild.order(build.name, build.version))
    return answer(
        RebuildAnswer(str(ordered.id), ordered.name, ordered.version, str(ordered.checkpoint)),
        202,
    )


@route(
    "GET",
    "/projections/{projection}/documents",
    "projections",
    query=DocumentsPart,
    answer=DocumentsAnswer,
    problems=(409,),
)
async def find_documents(call: Call[DocumentsPart, None]) -> Response:
    """Find documents by their keys, or by the values of their fields, in order of key."""
    part = call.query
    source = await _source(call, part.version)
    size = part.limit or DEFAULT_PAGE
    if part.key:
        if part.where is not None or part.after is not None:
            raise InvalidInput("key selects documents by itself: leave out where and after")
        page = await call.store._engine.run(document_queries.read_documents(source, part.key))
    else:
        page = await call.store._engine.run(
            document_queries.find_documents(
                source, _fields(part.where), after=part.after, limit=size
            )
        )
    is_full = not part.key and len(page) == size
    links = links_of(call, {"after": list(page)[-1]} if is_full else None)
    return answer(
        DocumentsAnswer(
            [FoundDocument(key, document) for key, document in page.items()],
            str(page.checkpoint),
            str(page.head),
            links,
        )
    )


@route(
    "GET",
    "/projections/{projection}/documents/{key}",
    "projections",
    query=DocumentPart,
    answer=DocumentAnswer,
    problems=(409,),
)
async def read_document(call: Call[DocumentPart, None]) -> Response:
    """Read a document by its key, which is the name of its stream unless the projection differs."""
    key = call.path["key"]
    source = await _source(call, call.query.version)
    page: DocumentPage[msgspec.Raw] = await call.store._engine.run(
        document_queries.read_documents(source, [key])
    )
    if key not in page:
        raise Problem(
            404, "document-not-found", f"projection {source.name!r} has no document {key!r}"
        )
    return answer(DocumentAnswer(key, page[key], str(page.checkpoint), str(page.head)))


routes = [
    list_projections,
    show_projection,
    rebuild_projection,
    find_documents,
    read_document,
]


def may(call: Call[Any, Any], query: Query, *verbs: Verb) -> bool:
    """Return whether the principal may do one of the verbs with all events of a projection."""
    return any(call.principal.covers(verb, query) for verb in verbs or (Verb.READ, Verb.MANAGE))


async def build_of(call: Call[Any, Any], name: str, version: int | None, *verbs: Verb) -> BuildInfo:
    """Return the build that serves a version, if the principal may do one of the verbs with it.

    Without a version it is the newest one that serves, or else the newest one.

    Raises:
        ProjectionNotFound: it does not exist, or the principal may not even see it.
        Problem: the principal may see it, and lacks the right.
    """
    try:
        found = await call.store.projections(name)
    except ProjectionNotFound as error:
        if call.principal.may_everywhere(Verb.READ):
            raise
        raise ProjectionNotFound(error.projection) from None  # without the names of the others
    candidates = [build for build in found if version in (None, build.version)]
    candidates.sort(key=lambda build: build.state == "serving")
    if not candidates or not may(call, candidates[-1].query):
        raise ProjectionNotFound(name if version is None else f"{name}, version {version}")
    if not may(call, candidates[-1].query, *verbs):
        raise forbidden(
            f"{call.principal.name} may not {' or '.join(verbs)} all events of projection {name!r}"
        )
    return candidates[-1]


async def _source(call: Call[Any, Any], version: int | None) -> StoredDocuments:
    """Return the documents that the principal asks for, and may read.

    Raises:
        InvalidInput: the projection has no documents.
    """
    build = await build_of(call, call.path["projection"], version, Verb.READ)
    if build.kind != "documents":
        raise InvalidInput(
            f"projection {build.name!r} has no documents: its state is in tables or elsewhere"
        )
    return StoredDocuments(build.name, build.version, build.indexes)


def _fields(where: str | None) -> dict[str, Any] | None:
    if where is None:
        return None
    try:
        return msgspec.json.decode(where, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise InvalidInput(
            f'where must be a JSON object with values by field, such as {{"open": true}}: {error}'
        ) from error


def _build_answer(status: ProjectionStatus) -> BuildAnswer:
    build = status.build
    return BuildAnswer(
        build=str(build.id),
        projection=build.name,
        version=build.version,
        kind=build.kind,
        lifecycle=build.lifecycle,
        state=build.state,
        checkpoint=str(build.checkpoint),
        lag_events=str(status.lag_events),
        lag_seconds=status.lag_seconds,
        events_per_second=status.events_per_second,
        parked=str(status.parked),
        workers=status.workers,
        errors=status.errors,
        stopped=status.stopped,
        partitions=[
            PartitionAnswer(
                partition=part.partition,
                position=str(part.position),
                owner=part.owner,
                expires_at=part.expires_at,
                handled=str(part.handled),
                is_stopped=part.is_stopped,
                error=part.error,
                error_position=None if part.error_position is None else str(part.error_position),
            )
            for part in build.partitions
        ],
    )
