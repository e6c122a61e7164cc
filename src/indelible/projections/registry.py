"""Register projections, and look up their builds and checkpoints: operations."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from indelible.core.operation import Operation, Statement
from indelible.errors import (
    ProjectionDefinitionChanged,
    ProjectionNotFound,
    ProjectionNotReady,
    rebuild_command,
)
from indelible.streams.query_parameters import items, query_of

from .definition import ProjectionDefinition
from .types import BuildInfo, BuildState, Lifecycle, PartitionInfo

D = TypeVar("D")

_log = logging.getLogger("indelible.projections")
_inline_log = logging.getLogger("indelible.projections.inline")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Build:
    """One build of a projection: the serving one, or one that is built next to it.

    Attributes:
        id: the id of its row in `projections`.
        state: `"serving"` if it can be read; `"building"` if it cannot be read yet.
    """

    id: int
    state: BuildState


def register(definition: ProjectionDefinition, lifecycle: Lifecycle) -> Operation[list[Build]]:
    """Register a projection, and return its builds, the serving one first.

    A projection that is new to the store serves at once, from the beginning of the log. It is
    `"building"` if another version of it serves, or if it is inline and the log has events.

    Raises:
        ProjectionDefinitionChanged: it is registered with another definition under this version.
    """
    described: dict[str, object] = {
        "name": definition.name,
        "version": definition.version,
        "kind": definition.kind,
        "lifecycle": lifecycle,
        "items": _encode(items(definition.query)).decode(),
        "partitions": definition.partitions,
        "indexes": definition.indexes,
    }
    if definition.ddl:
        rows = yield Statement("projections.register_tables", {**described, "ddl": definition.ddl})
    else:
        rows = yield Statement("projections.register", described)
    for _, _, found, fits in rows:
        if found != lifecycle:
            raise ProjectionDefinitionChanged(definition.name, definition.version, found)
        if not fits:
            raise ProjectionDefinitionChanged(definition.name, definition.version)
    return [Build(build_id, state) for build_id, state, _, _ in rows]


def register_inline(definitions: Iterable[ProjectionDefinition]) -> Operation[None]:
    """Register inline projections, and log a warning if others serve that are not given.

    Raises:
        ProjectionDefinitionChanged: a projection is registered with another definition under the
            same version.
    """
    kept = set()
    for definition in definitions:
        (build, *_) = yield from register(definition, "inline")
        kept.add((definition.name, definition.version))
        if build.state == "building":
            _inline_log.warning("%s", ProjectionNotReady(definition.name, definition.version))
    passed_by = [
        build
        for build in (yield from builds())
        if build.serves_inline and (build.name, build.version) not in kept
    ]
    if passed_by:
        _inline_log.warning(
            "appends of this store do not update these inline projections, which miss its events:"
            " %s; name them in connect(inline=[…]), or drop those that no code uses; to rebuild"
            " those that missed events: %s",
            ", ".join(f"{build.name} (version {build.version})" for build in passed_by),
            "; ".join(rebuild_command(build.name) for build in passed_by),
        )


def builds(name: str | None = None) -> Operation[list[BuildInfo]]:
    """List the builds of one projection, or of all, without retired ones.

    Raises:
        ProjectionNotFound: no projection has this name.
    """
    by_id: dict[int, BuildInfo] = {}
    for build_id, of, version, kind, lifecycle, state, query, indexes, *part in (
        yield Statement("projections.builds", {"name": name})
    ):
        before = by_id[build_id].partitions if build_id in by_id else ()
        by_id[build_id] = BuildInfo(
            build_id,
            of,
            version,
            kind,
            lifecycle,
            state,
            query_of(msgspec.json.decode(query)),
            tuple(indexes),
            (*before, PartitionInfo(*part)),
        )
    if name is not None and not by_id:
        others = yield from builds()
        raise ProjectionNotFound(name, list(dict.fromkeys(build.name for build in others)))
    return list(by_id.values())


def inline_types(found: Iterable[BuildInfo]) -> dict[str, frozenset[str] | None]:
    """Return the serving inline projections, and the event types of each (None for all)."""
    return {build.name: build.types for build in found if build.serves_inline}


def checkpoint(name: str, position: int) -> Operation[int]:
    """Return the checkpoint of the newest serving version of a projection.

    Args:
        name: its name.
        position: the position to wait for. It is returned for an inline projection, which is always
            up to date.

    Raises:
        ProjectionNotFound: no projection has this name.
        ProjectionNotReady: the projection does not serve yet.
    """
    all_builds = yield from builds(name)
    serving = [build for build in all_builds if build.state == "serving"]
    if not serving:
        raise ProjectionNotReady(name, all_builds[-1].version)
    newest = serving[-1]
    return position if newest.lifecycle == "inline" else newest.checkpoint


def version_checkpoint(definition: ProjectionDefinition) -> Operation[int]:
    """Return the checkpoint of the version in the code, whether it serves or not.

    Raises:
        ProjectionNotFound: it never ran.
        ProjectionNotReady: this version never ran.
    """
    candidates = [
        build
        for build in (yield from builds(definition.name))
        if build.version == definition.version
    ]
    if not candidates:
        raise ProjectionNotReady(definition.name, definition.version)
    return max(candidates, key=lambda build: build.state == "serving").checkpoint


def cut_over(build_id: int) -> Operation[bool]:
    """Cut over to a build; return whether it serves."""
    ((serves,),) = yield Statement("projections.cut_over", {"projection_id": build_id})
    if serves:
        _log.info("a build of a projection now serves", extra={"build": build_id})
    return bool(serves)
