"""The values of an import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ImportEvent:
    """An event to be imported.

    Attributes:
        stream: the stream that it goes to.
        data: the fact: an instance of a registered class, or anything that can be written as JSON.
        type: what kind of fact it is; by default that of the data's class.
        id: its identity; by default made from the `source` and place of the import.
        version: the version that it must get; by default the next one of its stream.
        metadata: what is known about it.
        tags: labels `key:value`.
        valid_at: when the fact holds in the world; by default when it is recorded.
        recorded_at: when it was recorded first; counts only with `keep_recorded_at`.
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
    """What an import did.

    Attributes:
        imported: how many events it stored.
        skipped: how many were there already, from an earlier run.
        position: the position of the last event; 0 without any.
        stale: the inline projections that take events of the import and have not seen them: they
            are to be built anew.
    """

    imported: int
    skipped: int
    position: int
    stale: tuple[str, ...] = ()
