"""Lines of NDJSON as events to import."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from .chunk import LifeCycle

NO_METADATA = msgspec.Raw(b"{}")


class ImportLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One line of NDJSON, as `indelible log --json` writes it; three fields are enough."""

    stream: str
    type: str
    data: msgspec.Raw
    id: UUID | None = None
    version: int | str | None = None
    metadata: msgspec.Raw = NO_METADATA
    tags: tuple[str, ...] | None = None
    channel: str | None = None
    recorded_at: datetime | None = None
    valid_at: datetime | None = None
    erased: bool = False
    life: LifeCycle | None = None
    position: Any = None
    """The position in the other store; it is not kept."""


read_line: Callable[[bytes | str], ImportLine] = msgspec.json.Decoder(ImportLine).decode
