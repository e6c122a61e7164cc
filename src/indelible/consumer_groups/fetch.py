"""Operations: read the next, the due and the retried events of a worker's slices."""

from __future__ import annotations

from typing import Any

from indelible.core.operation import EventStatement, Operation, Rows, Statement
from indelible.errors import DecodingFailed, UnknownEventType, UpcastingFailed
from indelible.events import RecordedEvent
from indelible.postgres.adapters import moment_of
from indelible.serialization.codec import Codec
from indelible.streams.head import HeadState, epoch_parameters
from indelible.streams.log_windows import MatchingWindows
from indelible.streams.query_parameters import items_json
from indelible.streams.recorded_time import LAST_POSITION
from indelible.streams.rows import decode_rows
from indelible.subscriptions.valid_time_follower import seconds_until

from .dispatch import Dispatcher
from .lease import Lease
from .progress import IMMEDIATE, DueKey, InFlightEvent, OwnedSlices, Progress
from .types import GroupSettings

_ROOM = 1_000
"""The most events that a worker holds in memory and has not handed out."""
_FIRST_PAGE = 100
_PAGE = 1_000
_PAGE_BYTES = 4 * 1024 * 1024
_SMALLEST_WINDOW = 1_000
_LARGEST_WINDOW = 200_000
_DELIVERED_AHEAD = 1_000
"""How many positions ahead a worker announces what it will hand out, so that it writes seldom."""
_RETRIES_PAUSE = 1.0
"""Seconds between two looks for replayed events, and for those that other workers left behind."""
_DUE_PAUSE = 60.0
"""Seconds until the next look for due events, if no event is known to become due."""


class Fetcher:
    """Reads events for a worker, and gives them to its dispatcher.

    Args:
        codec: decodes the events.
        settings: the settings of the group.
        lease: the worker's lease.
        slices: the worker's slices.
        dispatcher: takes the events that were read.

    Attributes:
        due_at: when to look for events that have become due, on the clock of `Worker.turn`.
    """

    due_at: float

    def __init__(
        self,
        codec: Codec,
        settings: GroupSettings,
        lease: Lease,
        slices: OwnedSlices,
        dispatcher: Dispatcher,
    ) -> None:
        self.due_at = 0.0
        self._codec = codec
        self._settings = settings
        self._query = settings.query and codec.upcasting.current(settings.query)
        stored = self._query and codec.upcasting.stored(self._query)
        self._items = items_json(stored)
        self._windows = MatchingWindows.of(stored)
        self._lease = lease
        self._slices = slices
        self._dispatcher = dispatcher
        self._head: HeadState | None = None  # the highest head that it has read up to
        self._window = _SMALLEST_WINDOW
        self._is_sparse = False  # whether the last page was not full
        self._page = _FIRST_PAGE

    @property
    def has_room(self) -> bool:
        """Whether it may read more events."""
        return bool(self._slices.by_number) and self._dispatcher.waiting < _ROOM

    def head_of(self, state: HeadState | None) -> int:
        """Return the head up to which the worker may read: 0 if the epoch is another one."""
        if state is None or state.epoch != self._lease.epoch:
            return 0
        # The head may go back for a moment. Reads name the highest one that the worker has seen.
        if self._head is None or state.position >= self._head.position:
            self._head = state
        return state.position

    def slices_changed(self) -> None:
        """Adapt to the slices that the worker owns after a rebalance."""
        self.due_at = 0.0

    def fetch_retries(self, now: float) -> Operation[None]:
        """Read the events that are due for a retry, if it is time to look for them."""
        dispatcher = self._dispatcher
        if now < dispatcher.retries_at or dispatcher.retries:
            return
        dispatcher.retries_at = now + _RETRIES_PAUSE
        dispatcher.late_slices.clear()
        rows = yield EventStatement(
            "consumer_groups.fetch_retries",
            {**self._lease.parameters(), "park_blocks_stream": self._settings.park_blocks_stream},
        )
        for row in rows:
            state, attempts, seconds = row[13:]
            if seconds > 0:
                dispatcher.retries_at = min(dispatcher.retries_at, now + seconds)
                break  # rows are in order of time
            item = self._item(row)
            item.is_tracked, item.attempt = True, attempts + 1
            part = self._slices.by_number.get(item.slice)
            if part is None:
                continue
            if part.busy is not None:
                if part.busy.position != item.position:
                    dispatcher.late_slices.add(item.slice)
                continue
            if item.is_nothing:  # no event is left to handle, and later ones wait for this row
                yield from self._finish(item)
            elif state == "in_progress" and attempts >= self._settings.max_attempts:
                item.reason = f"the worker died at attempt {attempts}"
                yield from dispatcher.record_failure(item, "parked", attempts)
            elif item.failure is not None:
                yield from dispatcher.park_unreadable(item, attempts)
            elif item.event is not None and item.event.is_erased:
                # It was erased after it failed, so it must not be handled any more.
                yield from self._finish(item)
            else:
                dispatcher.add_retry(item)

    def fetch_next(self, now: float, head: int) -> Operation[None]:
        """Read the events that have become due and the next ones of the log, if there is room.

        Raises:
            EpochMismatch: the log has another epoch.
        """
        if not self.has_room:
            return
        has_more = self._slices.cursor.position < head
        if self._settings.deliver_when_valid and (has_more or now >= self.due_at):
            # Read due events first: backdated ones then come from the log, in its order.
            is_whole = yield from self._fetch_due(now)
            has_more = has_more and is_whole
        if has_more:
            yield from self._fetch_log(now, head)

    def _fetch_log(self, now: float, head: int) -> Operation[None]:
        """Read the next events of the log, except those that are not due yet."""
        cursor = self._slices.cursor
        low, upto = cursor.position, min(head, cursor.position + self._window)
        if self._windows is not None and self._is_sparse:
            bounds = yield from self._windows.next_bounds(low, head, self._log())
            if bounds is not None:
                low, upto = bounds
        if low == upto:  # no event matches up to there
            yield from self._advance_to(now, Progress(upto, cursor.due), [])
            return
        asked = self._page
        rows = yield EventStatement(
            "consumer_groups.fetch",
            {**self._common_parameters(), "after": low, "upto": upto, "limit": asked},
        )
        is_full = len(rows) == asked
        self._is_sparse = not is_full
        reached = rows[-1][0] if is_full else upto
        # The window is about as many positions as a page is likely to need. So no statement scans
        # many in vain, nor all of a log in which few events match.
        self._window = 2 * (reached - cursor.position) if is_full else 2 * self._window
        self._window = max(_SMALLEST_WINDOW, min(self._window, _LARGEST_WINDOW))
        # An empty result may mean that the lease has expired. The next heartbeat, which moves the
        # checkpoint, then raises LeaseLost.
        items = []
        slices, due, after = self._slices.by_number, cursor.due, cursor
        for item in self._decoded(rows):
            position, taken = item.position, slices[item.slice].taken
            if position <= taken.position or item.is_nothing:
                continue
            if item.due is not IMMEDIATE and item.due > max(due, taken.due):
                self.due_at = 0.0  # look at once, to learn when it is due
                continue
            before = after if after.position == position - 1 else Progress(position - 1, due)
            after = Progress(position, due)
            item.set_bounds(before, after, taken)
            items.append(item)
        yield from self._advance_to(now, Progress(reached, due), items, _DELIVERED_AHEAD)

    def _fetch_due(self, now: float) -> Operation[bool]:
        """Read the events that the worker has passed in the log and that have become due.

        Returns:
            Whether these were all of them.
        """
        cursor = self._slices.cursor
        above = {"above_valid_at": cursor.due[0], "above_position": cursor.due[1]}
        upto = max(cursor.position, self._slices.furthest)
        ((moment, next_due),) = yield Statement(
            "subscriptions.next_due", {**above, **self._log(), "upto": upto}
        )
        # Do not go back if the server's clock was set back.
        reached = max(cursor.due, (moment, LAST_POSITION))
        if next_due is None or next_due > moment:
            self.due_at = now + (
                _DUE_PAUSE if next_due is None else seconds_until(next_due, moment)
            )
            self._slices.cursor = Progress(cursor.position, reached)
            return True
        # Read a page at most, counting the events of all workers: thousands may have become due.
        window = yield Statement(
            "consumer_groups.due_window", {**above, "count": _PAGE}, prepared=False
        )
        is_whole = not window or window[0] > reached
        if not is_whole:
            reached = window[0][0], window[0][1]
        rows = yield EventStatement(
            "consumer_groups.fetch_due",
            {
                **self._common_parameters(),
                **above,
                "until_valid_at": reached[0],
                "until_position": reached[1],
                "upto": upto,
            },
            prepared=False,
        )
        items = []
        for item in self._decoded(rows):
            taken = self._slices.by_number[item.slice].taken
            if (
                item.is_nothing
                or item.due <= taken.due
                or item.position > max(cursor.position, taken.position)
            ):
                continue
            item.set_bounds(
                Progress(cursor.position, (item.due[0], item.position - 1)),
                Progress(cursor.position, item.due),
                taken,
            )
            items.append(item)
        self.due_at = 0.0
        yield from self._advance_to(now, Progress(cursor.position, reached), items)
        return is_whole

    def _advance_to(
        self, now: float, cursor: Progress, items: list[InFlightEvent], ahead: int = 0
    ) -> Operation[None]:
        """Move the cursor past events, after announcing that they will be handed out."""
        if items:
            last = Progress(max(item.position for item in items), max(item.due for item in items))
            delivered = self._lease.delivered
            if delivered.merged_with(last) != delivered:
                announced = Progress(last.position + ahead, last.due)
                yield from self._lease.announce(now, delivered.merged_with(announced))
        for item in items:
            self._dispatcher.add(item)
        self._slices.cursor = cursor

    def _finish(self, item: InFlightEvent) -> Operation[None]:
        yield from self._dispatcher.record_attempt(item, item.attempt)
        yield from self._dispatcher.finish(item)
        self._dispatcher.retries_at = 0.0

    def _log(self) -> dict[str, object]:
        """Return the parameters that identify the log that the worker reads."""
        head = self._head
        if head is None or head.event_id is None:
            return {"epoch": self._lease.epoch, "anchor": None, "anchor_id": None}
        return epoch_parameters(head, (head.position, head.event_id))

    def _common_parameters(self) -> dict[str, object]:
        partition_by = self._settings.partition_by
        return {
            **self._lease.parameters(),
            **self._log(),
            "items": self._items,
            "partition_by": None if partition_by == "stream" else partition_by,
        }

    def _decoded(self, rows: Rows) -> list[InFlightEvent]:
        """Return the event of each row, decoded, or with the reason why it cannot be."""
        try:
            events = decode_rows(self._codec, [row[:11] for row in rows], query=self._query)
        except (UnknownEventType, DecodingFailed, UpcastingFailed):
            return [self._item(row, row[13]) for row in rows]
        if rows:
            size = max(1, sum(len(row[5] or b"") for row in rows))
            self._page = max(1, min(_PAGE, 10 * self._page, _PAGE_BYTES * len(rows) // size))
        items, count = [], 0
        for row in rows:
            first, position = count, row[0]
            while count < len(events) and events[count].position == position:
                count += 1
            items.append(self._in_flight(row, row[13], events[first:count]))
        return items

    def _item(self, row: tuple[Any, ...], due_at: bytes | None = None) -> InFlightEvent:
        """Return the event of one row, as `_decoded` does."""
        try:
            events: list[RecordedEvent] = []
            if row[1] is not None:
                events = decode_rows(self._codec, [row[:11]], query=self._query)
        except (UnknownEventType, DecodingFailed, UpcastingFailed) as error:
            return self._in_flight(row, due_at, [], failure=str(error))
        return self._in_flight(row, due_at, events)

    def _in_flight(
        self,
        row: tuple[Any, ...],
        due_at: bytes | None,
        events: list[RecordedEvent],
        failure: str | None = None,
    ) -> InFlightEvent:
        position = row[0]
        due: DueKey = IMMEDIATE
        if due_at is not None and self._settings.deliver_when_valid:
            due = moment_of(due_at), position
        return InFlightEvent(
            events[0] if events else None,
            position,
            key=row[11],
            slice=row[12],
            due=due,
            rest=tuple(events[1:]),
            token=self._lease.token,
            failure=failure,
        )
