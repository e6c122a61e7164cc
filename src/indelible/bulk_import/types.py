"""The values of an import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ImportEvent:
    """An event to import.

    Attributes:
        stream: the stream to append to.
        data: the event's data: an instance of a registered class, or anything that can be written
            as JSON.
        type: the event type; by default that of the data's class.
        id: its id; by default derived from the `source` of the import and its place in it.
        version: the version that it must get; by default the next one of its stream.
        metadata: the event's metadata.
        tags: tags in the form `key:value`.
        valid_at: the valid time; by default the recorded time.
        recorded_at: the original recorded time; used only with `keep_recorded_at`.
        channel: the stream's channel, as for `append`.
    """

    stream: str
    data: Any
    type: str | None = None
    id: UUID | None = None
    version: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    valid_at: datetime | None = None
    recorded_at: datetime | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import.

    Attributes:
        imported: how many events it stored.
        skipped: how many events it skipped, because an earlier run stored them.
        position: the position of the last event; 0 without any.
        stale: the inline projections that missed events of the import. Rebuild them.
    """

    imported: int
    skipped: int
    position: int
    stale: tuple[str, ...] = ()
