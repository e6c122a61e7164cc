"""Operations: rebuild a projection next to the serving build, and cut over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_name
from indelible.errors import InvalidInput, ProjectionNotFound, ProjectionStopped, rebuild_command
from indelible.serialization.codec import Codec
from indelible.streams.head import head, head_info

from . import registry
from .definition import ProjectionDefinition
from .partition import PartitionProcessor
from .projection import Kind
from .types import CUT_OVER_DISTANCE, BuildInfo, Lifecycle


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """The progress of a rebuild.

    Attributes:
        build: the new build, as `BuildInfo.id`.
        position: its state includes all events up to this position.
        head: the settled position at this moment.
        events: how many events it has handled, in all partitions together.
        left_out: how many events it skips because its code failed at them (`on_error="park"`).
        is_done: whether it serves.
    """

    build: int
    position: int
    head: int
    events: int
    left_out: int
    is_done: bool

    @property
    def is_near(self) -> bool:
        """Whether it is close enough to the head to process the rest while appends wait."""
        return self.position >= self.head - CUT_OVER_DISTANCE


def begin(definition: ProjectionDefinition) -> Operation[BuildInfo]:
    """Begin a rebuild, or continue one that has begun.

    Raises:
        InvalidInput: its state is not in documents, so two builds would write to the same place.
        ProjectionDefinitionChanged: it is registered with another definition under the same
            version.
    """
    try:
        earlier = yield from registry.builds(definition.name)
    except ProjectionNotFound:
        earlier = []
    lifecycle: Lifecycle = earlier[-1].lifecycle if earlier else "async"
    builds = yield from registry.register(definition, lifecycle)
    if builds[-1].state == "serving":
        _check_in_place(definition.name, definition.version, definition.kind)
    ((build_id,),) = yield Statement(
        "projections.start_rebuild", {"name": definition.name, "version": definition.version}
    )
    return (yield from _build(definition.name, build_id))


def order(name: str, version: int | None = None) -> Operation[BuildInfo]:
    """Begin a rebuild that the daemons carry out, or continue it; no code is needed here.

    Args:
        name: the name of the projection.
        version: its version; None for the newest.

    Returns:
        The new build. Daemons that have the code of this version build it, and cut over to it.

    Raises:
        ProjectionNotFound: no projection has this name, or it has no such version.
        InvalidInput: its state is not in documents, or appends update it: their cutover needs its
            code.
    """
    found = yield from registry.builds(validate_name("projection", name))
    candidates = [build for build in found if version in (None, build.version)]
    if not candidates:
        there = (f"{name}, version {build.version}" for build in found)
        raise ProjectionNotFound(f"{name}, version {version}", list(dict.fromkeys(there)))
    build = candidates[-1]
    if build.state == "serving":
        _check_in_place(name, build.version, build.kind)
    if build.lifecycle == "inline":
        raise InvalidInput(
            f"projection {name!r} is inline, and the cutover of its new build needs its code: run"
            f" {rebuild_command(name)}"
        )
    ((build_id,),) = yield Statement(
        "projections.start_rebuild", {"name": name, "version": build.version}
    )
    return (yield from _build(name, build_id))


def look(definition: ProjectionDefinition, build_id: int) -> Operation[RebuildProgress]:
    """Return the progress of a rebuild.

    Raises:
        ProjectionStopped: its code fails at an event.
        ProjectionNotFound: it was dropped in the meantime.
    """
    build = yield from _build(definition.name, build_id)
    for part in build.partitions:
        if part.is_stopped:
            raise ProjectionStopped(
                build.name, build.version, part.partition, part.error_position, part.error
            )
    parked = yield Statement("projections.parked_positions", {"projection_id": build_id})
    return RebuildProgress(
        build=build_id,
        position=build.checkpoint,
        head=(yield from head()),
        events=sum(part.handled for part in build.partitions),
        left_out=len({position for position, _ in parked}),
        is_done=build.state == "serving",
    )


def seize(
    codec: Codec, definition: ProjectionDefinition, build_id: int, *, is_last: bool
) -> Operation[tuple[list[PartitionProcessor], int] | None]:
    """Block the appends that update an inline projection until the transaction ends.

    It waits for open appends for 0.2 seconds at most, because other appends queue up behind it.

    Args:
        codec: decodes the events.
        definition: the projection.
        build_id: the build that is to serve.
        is_last: whether this is the last try: raise an error instead of returning None.

    Returns:
        The partitions of the build, and the position up to which to process them: the last one that
        was assigned. None if open appends have not ended.

    Raises:
        DatabaseError: open appends have not ended at the last try; it names their transactions.
    """
    if not is_last:
        ((is_locked,),) = yield Statement("projections.try_lock", {"name": definition.name})
        if not is_locked:
            return None
    rows = yield Statement("projections.force_acquire", {"projection_id": build_id})
    # Not the head: the open transactions that hold it back do not concern this projection.
    upto = (yield from head_info()).last_position
    parked = yield Statement("projections.parked_positions", {"projection_id": build_id})
    processors = []
    for partition, token, position in rows:
        processor = PartitionProcessor(
            codec, definition, partition=partition, owner="swap", build_id=build_id
        )
        processor.token, processor.position = token, position
        processor.parked = {left_out for left_out, of in parked if of == partition}
        processor.forget()
        processor.read_up_to(upto)
        processors.append(processor)
    return processors, upto


def _build(name: str, build_id: int) -> Operation[BuildInfo]:
    for build in (yield from registry.builds(name)):
        if build.id == build_id:
            return build
    raise ProjectionNotFound(name)


def _check_in_place(name: str, version: int, kind: Kind) -> None:
    """Check that two builds of a version can exist at the same time."""
    if kind != "documents":
        raise InvalidInput(
            f"projection {name!r} version {version} cannot be rebuilt in place: its state is in"
            f" {'your own tables' if kind == 'tables' else 'an external system'}, where two builds"
            " would overwrite each other; increase its version, and write to a place with the"
            " version in its name"
        )


Report = Callable[[RebuildProgress], None]
"""A function that is called with the progress of a rebuild."""


def report_nothing(_: RebuildProgress) -> None:
    """Ignore the progress of a rebuild."""
