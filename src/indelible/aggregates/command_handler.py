"""Operations that handle a command: load, decide, append, and retry after a conflict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic
from uuid import UUID, uuid5

from typing_extensions import TypeVar

from indelible.core.operation import AppendStatement, Operation, Rows
from indelible.core.retry import RetryBudget
from indelible.errors import DuplicateEvent, InvalidInput, WrongExpectedVersion
from indelible.events import AppendResult, NewEvent, StreamAppend
from indelible.query import AppendCondition
from indelible.streams import append, append_input
from indelible.streams.rows import decode_rows, recorded_at_of

from .adapter import adapter_of, changes_of, events_of
from .aggregate import Aggregate
from .state_loader import StateLoader, events_after

State = TypeVar("State")
Event = TypeVar("Event")
Returned = TypeVar("Returned", default=None)


@dataclass(frozen=True, slots=True)
class CommandResult(Generic[State, Event, Returned]):
    """The result of a command.

    Attributes:
        state: the state after the command; for an aggregate class, the aggregate.
        version: the version of the state.
        events: the data of the recorded events; empty if there are none.
        result: the append result; None if no event was recorded. If the command had been handled
            before, `result.idempotent` is true and all attributes describe the first result.
        returned: the return value of the function that was called with the aggregate. None for a
            decider, and if the command had been handled before.
    """

    state: State
    version: int
    events: tuple[Event, ...]
    result: AppendResult | None
    returned: Returned | None = None


class CommandHandler:
    """Handles one command; see `EventStore.handle`.

    Attributes:
        handled: the result, set after a successful attempt.
    """

    handled: CommandResult[Any, Any, Any]

    loading: StateLoader[Any]

    def __init__(
        self,
        settings: append_input.AppendSettings,
        stream: str,
        given: object,
        command: Any,
        *,
        command_id: UUID | None,
        condition: AppendCondition | Sequence[AppendCondition] | None,
        channel: str | None,
        metadata: Mapping[str, Any] | None,
        attempts: int,
    ) -> None:
        if command_id is not None and not isinstance(command_id, UUID):
            raise InvalidInput(
                f"command_id must be a UUID, not {command_id!r}: uuid.uuid5(namespace, text)"
                " derives one from a text"
            )
        self._append_settings = settings
        self._stream = stream
        self._subject = adapter_of(given)
        self._command = command
        self._command_id = command_id
        self._condition = condition
        self._channel = channel
        self._metadata = metadata
        self._attempts = RetryBudget(attempts)
        self.loading = self._loading()
        self._has_loaded = False

    def attempt(self) -> Operation[float | None]:
        """Run one attempt.

        Returns:
            The seconds to wait before the next attempt; None if the command is handled.
        """
        if self._has_loaded:
            yield from self.loading.catch_up()
        else:
            yield from self.loading.load()
            self._has_loaded = True
        if self.loading.handled_at is not None:
            self.handled = yield from self._first_result(self.loading.handled_at)
            return None
        state, version = self.loading.state, self.loading.version
        decided, returned = self._subject.decide(self._append_settings.codec, self._command, state)
        if not decided:
            self.handled = CommandResult(state, version, (), None, returned)
            return None
        changes = self._with_ids(decided)
        # These may fail: events that cannot be read back or applied are not stored.
        events = events_of(self._append_settings.codec, changes)
        after = self._subject.with_changes(state, events)
        try:
            result = yield from append.append(
                self._append_settings,
                self._stream,
                changes,
                expected=version,
                condition=self._condition,
                channel=self._channel,
                metadata=self._metadata,
            )
        except WrongExpectedVersion as refusal:
            if after is state and not self._subject.changes_in_place:
                # evolve may have changed the state in place: load it again.
                self.loading, self._has_loaded = self._loading(), False
            return self._attempts.pause_after(refusal)
        except DuplicateEvent as refusal:
            # Another process handled the same command in between, with another decision.
            self.handled = yield from self._first_result(self._place_of_first(refusal))
            return None
        if result.idempotent and self._command_id is not None:
            # Another process handled it in between, perhaps with more events after these.
            first = result.version - len(changes) + 1
            self.handled = yield from self._first_result(first)
            return None
        after = self._subject.stored(after, result)
        self.handled = CommandResult(after, result.version, tuple(events), result, returned)
        return None

    def _loading(self, to_version: int | None = None) -> StateLoader[Any]:
        return StateLoader(
            self._append_settings.codec,
            self._stream,
            self._subject,
            to_version=to_version,
            command_event=None if self._command_id is None else self._event_id(0),
        )

    def _event_id(self, index: int) -> UUID:
        """Return the id of an event of the command. Each attempt gets the same id."""
        assert self._command_id is not None  # noqa: S101
        return uuid5(self._command_id, f"{index} {self._stream}")

    def _with_ids(self, changes: Sequence[Any]) -> list[Any]:
        if self._command_id is None:
            return list(changes)
        type_of = self._append_settings.codec.type_of
        return [
            replace(
                change if isinstance(change, NewEvent) else NewEvent(type_of(change), change),
                id=self._event_id(index),
            )
            for index, change in enumerate(changes)
        ]

    def _place_of_first(self, refusal: DuplicateEvent) -> int:
        if self._command_id is not None:
            for duplicate in refusal.duplicates:
                if (duplicate.id, duplicate.stream) == (self._event_id(0), self._stream):
                    return duplicate.version
        raise refusal

    def _first_result(self, first: int) -> Operation[CommandResult[Any, Any]]:
        """Return the result of the command when it was handled first."""
        # The first caller may have got an error because it is unknown whether the commit is
        # durable. Wait until it is.
        yield AppendStatement("streams.wait_at_commit")
        rows = yield from self._rows_from(first)
        position, version, recorded_at = rows[-1][0], rows[-1][2], recorded_at_of(rows[-1])
        result = AppendResult(self._stream, version, position, recorded_at, idempotent=True)
        then = self._loading(to_version=version)
        yield from then.load()
        events = decode_rows(self._append_settings.codec, rows, self._stream)
        return CommandResult(
            self._subject.stored(then.state, result),
            version,
            tuple(event.data for event in events),
            result,
        )

    def _rows_from(self, first: int) -> Operation[Rows]:
        """Return the rows of the command's events from a version on, recognized by their ids."""
        own_rows: Rows = []
        while rows := (yield from events_after(self._stream, first + len(own_rows) - 1)):
            for row in rows:
                if row[3] != self._event_id(len(own_rows)).bytes:
                    return own_rows
                own_rows.append(row)
        return own_rows


def begin(
    settings: append_input.AppendSettings, aggregate: object, stream: str
) -> StateLoader[Any]:
    """Return the loader of the aggregate; see `EventStore.writing`."""
    if not (isinstance(aggregate, type) and issubclass(aggregate, Aggregate)):
        raise InvalidInput(f"aggregate must be a subclass of Aggregate, not {aggregate!r}")
    return StateLoader(settings.codec, stream, adapter_of(aggregate))


def finish(
    settings: append_input.AppendSettings,
    stream: str,
    aggregate: Aggregate[Any],
    *,
    condition: AppendCondition | Sequence[AppendCondition] | None,
    channel: str | None,
    metadata: Mapping[str, Any] | None,
) -> Operation[None]:
    """Append the events that an aggregate has recorded. Without events, only check its version."""
    changes = changes_of(settings.codec, aggregate)
    if not changes:
        check = StreamAppend(stream, [], aggregate.version)
        yield from append.append_many(settings, [check], condition=condition)
        return
    result = yield from append.append(
        settings,
        stream,
        changes,
        expected=aggregate.version,
        condition=condition,
        channel=channel,
        metadata=metadata,
    )
    adapter_of(type(aggregate)).stored(aggregate, result)
