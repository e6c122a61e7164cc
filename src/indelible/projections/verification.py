"""Operations: fold a projection up to its checkpoint, and compare with its stored documents.

All statements run in one database snapshot, so events, checkpoints and documents are consistent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from indelible.core.operation import Operation, Statement
from indelible.errors import DecodingFailed, ProjectionNotReady, UnknownEventType, UpcastingFailed
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec
from indelible.streams.read_log import LogReading
from indelible.streams.read_options import LogReadOptions

from .definition import ProjectionDefinition, partition_of
from .document_state import DocumentState
from .partition import partitions_of, read_one_by_one
from .registry import builds

_PAGE = 5_000
_SHOWN = 100
"""How many differences a verification reports one by one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A stored document that differs from its events.

    Attributes:
        key: its key.
        kept: the stored document, as plain JSON data; None if none is stored.
        folded: the document folded from the events, as plain JSON data; None if none results.
    """

    key: str
    kept: Any
    folded: Any


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of folding a projection from scratch.

    Attributes:
        projection: its name.
        version: the version of its code.
        checkpoint: the position up to which it was folded; the lowest of its partitions.
        events: how many events were folded.
        documents: how many documents result from the events.
        differing: how many documents differ from their events.
        differences: the first 100 differences, in order of key.
    """

    projection: str
    version: int
    checkpoint: int
    events: int
    documents: int
    differing: int
    differences: tuple[Difference, ...]

    @property
    def holds(self) -> bool:
        """Whether every stored document equals the one folded from its events."""
        return self.differing == 0


class ProjectionVerifier:
    """A projection being verified; see `EventStore.verify`. Its operations run in one snapshot.

    Args:
        codec: decodes the events.
        definition: the projection.

    Raises:
        InvalidInput: the projection has no documents.
    """

    def __init__(self, codec: Codec, definition: ProjectionDefinition) -> None:
        definition.check_kind("documents")
        self.definition = definition
        self._folding = DocumentState(definition)
        self._codec = codec
        self._reading = LogReading(codec, definition.query, LogReadOptions())
        self._build_id = 0
        self._checkpoints: list[int] = []
        self._parked: set[tuple[int, int]] = set()
        self._events = 0

    def begin(self) -> Operation[None]:
        """Determine up to where to fold.

        Raises:
            ProjectionNotFound: the projection never ran.
            ProjectionNotReady: this version of it does not serve yet.
        """
        definition = self.definition
        # This locks the table until the end: a rebuild that cuts over cannot drop its documents.
        yield Statement(
            "projections.stored_documents", {"projection_id": 0, "after": "", "limit": 0}
        )
        found = [
            build
            for build in (yield from builds(definition.name))
            if build.version == definition.version and build.state == "serving"
        ]
        if not found:
            raise ProjectionNotReady(definition.name, definition.version)
        (build,) = found
        self._build_id = build.id
        if build.lifecycle == "inline":
            ((last_position, _),) = yield Statement(
                "admin.statistics"
            )  # the projection includes all visible events
            self._checkpoints = [last_position] * definition.partitions
        else:
            self._checkpoints = [part.position for part in build.partitions]
        rows = yield Statement("projections.parked_positions", {"projection_id": build.id})
        self._parked = {(position, partition) for position, partition in rows}
        self._reading.read_up_to(max(self._checkpoints))

    def next_page(self) -> Operation[list[RecordedEvent]]:
        """Read the next events; an empty list at the end.

        Raises:
            ProjectionFailed: an event cannot be read.
        """
        try:
            return (yield from self._reading.next_page())
        except (UnknownEventType, DecodingFailed, UpcastingFailed):
            # The event is skipped if it is parked or was never handled. The list of events before
            # it may be empty, which would mean the end.
            while self._reading.position < max(self._checkpoints):
                self._reading, events = yield from read_one_by_one(
                    self._codec, self.definition, self._reading, self._is_taken
                )
                if events:
                    return events
            return []

    def take(self, events: Sequence[RecordedEvent], known: Sequence[Any] = ()) -> None:
        """Fold a page.

        Raises:
            ProjectionFailed: the projection failed at an event.
        """
        steps = [
            (event, key)
            # Filter first: for a parked event, the key itself may be what fails.
            for event, key in self._folding.route(
                filter(self.definition.takes, filter(self._is_taken, events))
            )
            if self._was_taken(event, partition_of(key, self.definition.partitions))
        ]
        self._folding.fold(steps, known)
        self._events += len({event.position for event, _ in steps})

    def finish(self) -> Operation[Verification]:
        """Compare with the stored documents."""
        expected = {
            key: document
            for key, document in self._folding.documents.items()
            if document is not None
        }
        documents, differences, differing, after = len(expected), [], 0, ""
        while rows := (
            yield Statement(
                "projections.stored_documents",
                {"projection_id": self._build_id, "after": after, "limit": _PAGE},
            )
        ):
            after = rows[-1][0]
            for key, written in rows:
                kept, folded = msgspec.json.decode(written), self._plain(expected.pop(key, None))
                if kept != folded:
                    differing += 1
                    differences.append(Difference(key, kept, folded))
            del differences[_SHOWN:]
        differing += len(expected)
        differences += [
            Difference(key, None, self._plain(expected[key])) for key in sorted(expected)[:_SHOWN]
        ]
        differences.sort(key=lambda difference: difference.key)
        return Verification(
            self.definition.name,
            self.definition.version,
            min(self._checkpoints),
            self._events,
            documents,
            differing,
            tuple(differences[:_SHOWN]),
        )

    def _is_taken(self, event: RecordedEvent) -> bool:
        """Return whether any partition may have handled an event, without knowing its key."""
        return any(self._was_taken(event, part) for part in partitions_of(self.definition, event))

    def _was_taken(self, event: RecordedEvent, partition: int) -> bool:
        return (
            event.position <= self._checkpoints[partition]
            and (event.position, partition) not in self._parked
        )

    def _plain(self, document: Any) -> Any:
        return None if document is None else msgspec.json.decode(self.definition.write(document))
