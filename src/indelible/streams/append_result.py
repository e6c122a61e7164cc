"""Turn the outcomes of the append functions into results and errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from indelible.core.operation import Operation
from indelible.core.stream_write import StreamWrite
from indelible.errors import (
    AppendConditionFailed,
    ChannelMismatch,
    Duplicate,
    DuplicateEvent,
    EpochMismatch,
    IndelibleError,
    StreamClosed,
    VersionConflict,
    WrongExpectedVersion,
)
from indelible.events import AppendResult

from .append_input import AppendSettings, to_expected_version
from .read_log import read_positions


def check_outcomes(
    settings: AppendSettings, writes: Sequence[StreamWrite], outcomes: Sequence[AppendOutcome]
) -> Operation[None]:
    """Raise the error of a rejected append, if any was rejected."""
    refusals = [outcome for outcome in outcomes if outcome.is_refusal]
    if not refusals:
        return
    if refusals[0].outcome == "epoch_mismatch":
        raise _mismatch(refusals[0].facts or b"[]")
    if refusals[0].outcome == "condition_failed":
        positions = msgspec.json.decode(refusals[0].facts or b"[]", type=list[int])
        raise AppendConditionFailed((yield from read_positions(settings.codec, positions)))
    raise _refusal(writes, refusals)


class _LostMarker(msgspec.Struct):
    """A marker of a log that has lost events."""

    position: int
    epoch: UUID
    today: UUID
    id: UUID | None = None
    safe_through: int | None = None


def _mismatch(facts: bytes) -> EpochMismatch:
    lost_markers = msgspec.json.decode(facts, type=list[_LostMarker])
    lost_ids = [marker.id for marker in lost_markers if marker.id is not None]
    first = lost_markers[0]
    return EpochMismatch(first.position, first.safe_through, lost_ids, first.epoch, first.today)


class AppendOutcome(msgspec.Struct, frozen=True, gc=False):
    """A row of the functions that append."""

    index: int
    outcome: str
    last_version: int | None
    last_position: int | None
    recorded_at: datetime
    facts: bytes | None

    @property
    def is_refusal(self) -> bool:
        """Whether the append was rejected."""
        return self.outcome not in ("appended", "checked", "idempotent")

    def result(self, write: StreamWrite) -> AppendResult:
        """Return the result of an append that was not rejected."""
        return AppendResult(
            stream=write.stream,
            version=-1 if self.last_version is None else self.last_version,
            position=self.last_position or 0,
            recorded_at=self.recorded_at,
            idempotent=self.outcome == "idempotent",
        )


class LastEvent(msgspec.Struct):
    """The last event of a stream, for the report of a wrong expected version."""

    id: UUID | None = None
    recorded_at: datetime | None = None


def _refusal(writes: Sequence[StreamWrite], refusals: Sequence[AppendOutcome]) -> IndelibleError:
    """Return the error of a rejected append. Errors that no retry can fix come first."""
    for outcome in refusals:
        write = writes[outcome.index]
        facts = outcome.facts or b"{}"
        if outcome.outcome == "channel_mismatch":
            actual = msgspec.json.decode(facts, type=dict[str, str])["channel"]
            assert write.channel is not None  # noqa: S101 - none is that of every stream
            return ChannelMismatch(write.stream, write.channel, actual)
    for outcome in refusals:
        if outcome.outcome == "duplicate" and outcome.facts is not None:
            return DuplicateEvent(msgspec.json.decode(outcome.facts, type=list[Duplicate]))
    for outcome in refusals:
        if outcome.outcome == "closed":
            closed_at = msgspec.json.decode(outcome.facts or b"{}", type=dict[str, datetime])
            version = -1 if outcome.last_version is None else outcome.last_version
            return StreamClosed(writes[outcome.index].stream, version, closed_at["closed_at"])
    conflicts = []
    for outcome in refusals:
        write = writes[outcome.index]
        last_event = msgspec.json.decode(outcome.facts or b"{}", type=LastEvent)
        conflicts.append(
            VersionConflict(
                stream=write.stream,
                expected=to_expected_version(write.expected),
                actual=-1 if outcome.last_version is None else outcome.last_version,
                last_event_id=last_event.id,
                last_recorded_at=last_event.recorded_at,
            )
        )
    return WrongExpectedVersion(conflicts)
