"""Operations: the life cycle of a stream: close and reopen it, archive and erase its events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_name, validate_text
from indelible.errors import (
    InvalidInput,
    StreamNotClosed,
    StreamNotFound,
    VersionConflict,
    WrongExpectedVersion,
)
from indelible.events import ExpectedVersion

from .append_input import check_expected, to_expected_version
from .append_result import LastEvent
from .info import StreamChange, StreamInfo, stream_info


def close_stream(
    stream: str, *, expected: int | ExpectedVersion, reason: str | None
) -> Operation[StreamInfo]:
    """Close a stream for new events; see `EventStore.close_stream`."""
    validate_name("stream", stream)
    expected_version = check_expected(expected)
    ((outcome, version, facts),) = yield Statement(
        "streams.close",
        {"stream": stream, "expected": expected_version, "reason": _check_reason(reason)},
    )
    if outcome == "wrong_version":
        last_event = msgspec.json.decode(facts, type=LastEvent)
        raise WrongExpectedVersion(
            [
                VersionConflict(
                    stream,
                    to_expected_version(expected_version),
                    version,
                    last_event.id,
                    last_event.recorded_at,
                )
            ]
        )
    return (yield from _changed(stream, outcome))


_CHANGES = {
    "reopen": "streams.reopen",
    "archive": "streams.archive",
    "erase": "streams.erase",
}


def change_stream(
    stream: str, operation: Literal["reopen", "archive", "erase"], *, reason: str | None
) -> Operation[StreamInfo]:
    """Reopen, archive or erase a stream; see `EventStore.reopen_stream` and so on."""
    validate_name("stream", stream)
    if operation == "erase" and reason is None:
        raise InvalidInput(
            "reason is required to erase a stream: it is the only record of the erasure"
        )
    ((outcome,),) = yield Statement(
        _CHANGES[operation], {"stream": stream, "reason": _check_reason(reason)}
    )
    return (yield from _changed(stream, outcome))


def stream_changes(stream: str) -> Operation[list[StreamChange]]:
    """Return the life cycle changes of a stream, in order."""
    rows = yield Statement("streams.changes", {"stream": validate_name("stream", stream)})
    return [StreamChange(*row) for row in rows]


def life_cycles(streams: Iterable[str]) -> Operation[dict[str, tuple[int, bytes]]]:
    """Return the life cycle changes of some streams, as an export has them.

    Returns:
        The version of the last event and the JSON of the changes, by stream. Streams without
        changes are missing.
    """
    rows = yield Statement("streams.life_cycles", {"streams": list(streams)})
    return {stream: (version, life_cycle) for stream, version, life_cycle in rows}


def _changed(stream: str, outcome: str) -> Operation[StreamInfo]:
    info = yield from stream_info(stream)
    if outcome == "missing" or info is None:
        raise StreamNotFound(stream)
    if outcome == "open":
        raise StreamNotClosed(stream)
    return info


def _check_reason(reason: object) -> str | None:
    return None if reason is None else validate_text("a reason", reason)
