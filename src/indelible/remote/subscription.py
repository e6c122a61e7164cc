# Generated from subscription_async.py; do not edit.
"""A subscription over HTTP, by server-sent events."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any

import msgspec

from indelible.core.concurrency import Begun, Event
from indelible.core.retry import StepSupervisor
from indelible.errors import InvalidInput
from indelible.events import Checkpoint, Data_co, RecordedEvent
from indelible.serialization.codec import Codec
from indelible.streams.query_parameters import items_json
from indelible.streams.rows import decode_rows
from indelible.subscriptions.log_follower import Batch, LogFollower, Start
from indelible.subscriptions.subscription import Subscription
from indelible.subscriptions.valid_time_follower import ValidTimeFollower

from .engine import RemoteEngine
from .event_source import EventSource
from .messages import Message
from .problems import error_of
from .requests import StoredEvent
from .statements import alternatives_json

_log = logging.getLogger("indelible")
_decode_event = msgspec.json.Decoder(StoredEvent, strict=False).decode


class RemoteSubscription(Subscription[Data_co]):
    """A subscription over HTTP. After a lost connection it continues where it was."""

    def __init__(
        self,
        engine: RemoteEngine,
        codec: Codec,
        query: Any,
        *,
        after: Start,
        deliver_when_valid: bool,
    ) -> None:
        follower = ValidTimeFollower if deliver_when_valid else LogFollower
        self._query = follower(codec, query, after=after)._query  # it checks the arguments
        stored = self._query and codec.upcasting.stored(self._query)
        self._parameters: dict[str, object] = {
            "query": alternatives_json(items_json(stored)),
            "after": after.isoformat() if isinstance(after, datetime) else after,
            "deliver_when_valid": deliver_when_valid or None,
        }
        self._server = engine
        self._codec = codec
        self._source: EventSource | None = None
        self._abort: weakref.finalize[Any, Any] | None = None
        self._messages: list[Message] = []
        """What has arrived, and is not decoded."""
        self._received: str | None = None
        """The id of the last message that was decoded."""
        self._place: str | None = None
        """The id of the last message whose events were handed out."""
        self._decoded: deque[tuple[RecordedEvent[Data_co], str]] = deque()
        """The events that are not handed out, each with the id of its message."""
        self._is_live = False
        self._has_caught_up = False
        self._stopped = Event()
        self._settled = Event()  # set when it has caught up, or never will
        self._supervisor = StepSupervisor("a subscription waits", _log)
        Begun.__init__(self)

    def _begin(self) -> None:
        if self._received is None:
            try:
                source = self._connect(is_patient=True)
                self._messages = source.messages()
            except BaseException:
                self._close_source()
                raise
            self._received = self._place = self._messages[0].id

    def _connect(self, *, is_patient: bool = False) -> EventSource:
        source = self._source = self._server.subscribe(
            {name: value for name, value in self._parameters.items() if value is not None},
            self._received,
            is_patient=is_patient,
        )
        self._abort = weakref.finalize(self, source.abort)
        if self._stopped.is_set():
            self._abort()
        return source

    @property
    def position(self) -> int:
        """All matching events up to here were returned. Pass it as `after` to a later reader."""
        return self.checkpoint.position

    @property
    def checkpoint(self) -> Checkpoint:
        """The position with the store's epoch. If you store it, a restored store is detected.

        Raises:
            InvalidInput: an async subscription has not begun.
        """
        if self._place is None:
            raise InvalidInput("the subscription has not begun: take its events first, or it")
        return Checkpoint.parse(self._place)

    @property
    def is_caught_up(self) -> bool:
        """Whether all matching events up to the last known head were returned."""
        return self._is_live and not self._decoded

    def batches(self) -> Iterator[Batch[Data_co]]:
        """Iterate over the events in batches; see `Subscription.batches`."""
        while (found := self._next_events()) is not None:
            self._place = self._received
            yield Batch(tuple(event for event, _ in found), self.position, self._is_live)

    def stop(self) -> None:
        """End the iteration at once. Any thread or task may call it, any number of times."""
        self._stopped.set()
        self._settled.set()
        if self._abort is not None:
            self._abort()

    def __next__(self) -> RecordedEvent[Data_co]:
        while not self._decoded:
            self._place = self._received
            found = self._next_events()
            if found is None:
                raise StopIteration
            self._decoded.extend(found)
        if self._stopped.is_set():
            raise StopIteration
        event, place = self._decoded.popleft()
        # Upcasters may have made several events of a stored one.
        if not self._decoded or self._decoded[0][1] != place:
            self._place = place
        return event

    def _next_events(self) -> list[tuple[RecordedEvent[Data_co], str]] | None:
        """Wait for messages, and return their events, maybe none; None if it was stopped."""
        if not self._stopped.is_set():
            self._begin()
        while not self._stopped.is_set():
            if self._is_live:
                self._has_caught_up = True
                self._settled.set()
            with self._supervisor:
                try:
                    return self._take()
                except BaseException as error:
                    self._close_source()
                    if self._stopped.is_set() and isinstance(error, Exception):
                        return None
                    raise
            self._stopped.wait(self._supervisor.pause)
        self._close_source()
        return None

    def _take(self) -> list[tuple[RecordedEvent[Data_co], str]]:
        messages, self._messages = self._messages, []
        if not messages:
            source = self._source or self._connect()
            messages = source.messages()
        events: list[tuple[RecordedEvent[Data_co], str]] = []
        is_live, received = self._is_live, self._received or ""
        for message in messages:
            received = message.id or received
            if message.kind == "failed":
                raise error_of(0, message.data or b"", self._codec)
            if message.kind == "caught_up":
                is_live = True
            elif message.data is not None:
                row = _decode_event(message.data).row()
                decoded = decode_rows(self._codec, [row], query=self._query)
                events += [(event, received) for event in decoded]
        # Only now: after an error, the same messages are asked for again.
        self._is_live, self._received = is_live, received
        return events

    def _close_source(self) -> None:
        self._is_live, self._messages = False, []
        source, self._source = self._source, None
        if self._abort is not None:
            self._abort.detach()
        if source is not None:
            source.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
