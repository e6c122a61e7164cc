"""The tail of the log: the few events that a look at the head has found beyond the last one.

One statement of the watch serves all subscriptions that have read up to the last head. Each of them
filters and decodes the rows for itself. The others read the log as usual.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from indelible.core.operation import EventStatement, Operation, Rows
from indelible.events import RecordedEvent
from indelible.streams.head import HeadState, head_state
from indelible.streams.read_log import LogReading, last_event
from indelible.streams.rows import decode_rows, undecoded


class Tail(NamedTuple):
    """All events between two heads.

    Attributes:
        after: the earlier head.
        head: the later head, of the same log.
        rows: the events after the one, up to the other.
    """

    after: HeadState
    head: HeadState
    rows: Rows


def look(known: HeadState | None) -> Operation[tuple[HeadState, Tail | None]]:
    """Return the state of the head, and the tail of the log if it is short and has grown.

    Args:
        known: the last head; None to look at the head only.
    """
    if known is None:
        return (yield from head_state()), None
    rows = yield EventStatement(
        "subscriptions.look", {"after": known.position, "after_id": known.event_id}
    )
    position, epoch, event_id = rows[0][:3]
    head = HeadState(
        position, UUID(bytes=epoch), None if event_id is None else UUID(bytes=event_id)
    )
    events = [row[3:] for row in rows if row[3] is not None]
    if not events or head.epoch != known.epoch:
        return head, None
    return head, Tail(known, head, events)


class FollowingReading(LogReading):
    """A reading that follows the log, and takes its next events from a tail that continues it."""

    _tail: Tail | None = None

    def extend(self, state: HeadState, tail: Tail | None = None) -> None:
        """Continue up to a newer head.

        Args:
            state: the head.
            tail: the events before it.
        """
        super().extend(state)
        self._tail = tail

    def next_window(self) -> Operation[list[RecordedEvent]]:
        """Take the events of the tail, or read the next window; return the matching ones."""
        tail, self._tail = self._tail, None
        if tail is None or not self._is_continued_by(tail):
            return (yield from super().next_window())
        query, rows = self._stored_query, tail.rows
        if query is not None and not query.matches_everything:
            rows = [row for row in rows if query.matches(undecoded(row))]
        events = decode_rows(self._codec, rows, query=self._query)
        self._after = tail.head.position
        self._last = last_event(tail.rows)
        return events

    def _is_continued_by(self, tail: Tail) -> bool:
        """Return whether the tail begins where the reading is, in the log that it has read."""
        position, epoch, event_id = tail.after
        return (
            not self._has_moved
            and self.position == position
            and (self.anchor(position) or (position, None)) == (position, event_id)
            and self.state is not None
            and self.state.epoch == epoch
        )
