"""The options of `EventStore.read` and `EventStore.read_all`, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from indelible.core.validation import validate_integer, validate_limit

from .recorded_time import RecordedTimeRange
from .valid_time import ValidTimeRange


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that both readings have.

    Attributes:
        backwards: whether to read from the end to the beginning.
        limit: how many events to read at most; None for no limit.
        recorded_time: the part of the log by recorded time.
        valid_time: the range of valid time. With a bound, events are in order of valid time.

    Raises:
        InvalidInput: a number is invalid.
    """

    backwards: bool = False
    limit: int | None = None
    recorded_time: RecordedTimeRange = RecordedTimeRange()
    valid_time: ValidTimeRange = ValidTimeRange()

    def __post_init__(self) -> None:
        validate_limit(self.limit)


class StreamReadOptions(ReadOptions, frozen=True, kw_only=True):
    """The options of `EventStore.read`.

    Attributes:
        from_version: the lowest version to read.
        to_version: the highest version to read; None for no limit.
        must_exist: whether to raise an error if the stream was never written.
        types: the event classes to read; None for all.
        type_names: the stored names of the types to read, instead of `types`.
    """

    from_version: int = 0
    to_version: int | None = None
    must_exist: bool = False
    types: Any = None
    type_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        validate_integer("from_version", self.from_version)
        if self.to_version is not None:
            validate_integer("to_version", self.to_version)


class LogReadOptions(ReadOptions, frozen=True, kw_only=True):
    """The options of `EventStore.read_all`.

    Attributes:
        after: the position after which to begin.
    """

    after: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        validate_integer("after", self.after)
