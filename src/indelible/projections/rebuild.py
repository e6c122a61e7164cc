"""Operations: build a projection anew beside the one that serves, and put it in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from indelible.core.operation import Operation, Statement
from indelible.errors import InvalidInput, ProjectionNotFound, ProjectionStopped
from indelible.serialization.codec import Codec
from indelible.streams.head import head, head_info

from . import registry
from .definition import ProjectionDefinition
from .partition import PartitionProcessor
from .types import CUT_OVER_DISTANCE, BuildInfo, Lifecycle


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is.

    Attributes:
        build: the build that is to serve, `BuildInfo.id`.
        position: up to here all events are in its state.
        head: the settled position at this moment.
        events: how many events it has taken in, all partitions together.
        left_out: how many events its code failed at, which it leaves out (`on_error="park"`).
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
        """Whether it is so far that the rest can be done while others wait."""
        return self.position >= self.head - CUT_OVER_DISTANCE


def begin(definition: ProjectionDefinition) -> Operation[BuildInfo]:
    """Begin to build a projection anew, or go on with what was begun before.

    Raises:
        InvalidInput: its state is not kept here, and another would be mixed up with it.
        ProjectionDefinitionChanged: it was begun in another way under its version.
    """
    try:
        earlier = yield from registry.builds(definition.name)
    except ProjectionNotFound:
        earlier = []
    lifecycle: Lifecycle = earlier[-1].lifecycle if earlier else "async"
    builds = yield from registry.register(definition, lifecycle)
    if definition.kind != "documents" and builds[-1].state == "serving":
        raise InvalidInput(
            f"version {definition.version} of projection {definition.name!r} keeps its state in"
            f" {'tables of yours' if definition.kind == 'tables' else 'another place'}, where a"
            " second one would be mixed up with it: raise its version and write to a place that"
            " has the version in its name, and it is built beside this one"
        )
    ((build_id,),) = yield Statement(
        "projections.start_rebuild", {"name": definition.name, "version": definition.version}
    )
    return (yield from _build(definition, build_id))


def look(definition: ProjectionDefinition, build_id: int) -> Operation[RebuildProgress]:
    """How far a rebuild is.

    Raises:
        ProjectionStopped: its code fails at an event.
        ProjectionNotFound: it was dropped meanwhile.
    """
    build = yield from _build(definition, build_id)
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
    """Hold up the appends that an inline projection takes part in, until the transaction ends.

    It waits for those under way for a fifth of a second at most: others queue up behind it.

    Args:
        codec: reads the events.
        definition: the projection.
        build_id: the build that is to serve.
        is_last: whether to raise what is in the way and not to return None.

    Returns:
        Its partitions, which are to be brought up to a position: the last that was handed out.
        None where appends under way have not ended.

    Raises:
        DatabaseError: at the last try appends under way have not ended; it names their
            transactions.
    """
    if not is_last:
        ((is_locked,),) = yield Statement("projections.try_lock", {"name": definition.name})
        if not is_locked:
            return None
    rows = yield Statement("projections.force_acquire", {"projection_id": build_id})
    # Not the head: what other transactions hold up is none of this projection's.
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


def _build(definition: ProjectionDefinition, build_id: int) -> Operation[BuildInfo]:
    for build in (yield from registry.builds(definition.name)):
        if build.id == build_id:
            return build
    raise ProjectionNotFound(definition.name)


Report = Callable[[RebuildProgress], None]
"""What is told how far a rebuild is."""


def report_nothing(_: RebuildProgress) -> None:
    """Do nothing with a report."""
