# Generated from aggregates_async.py; do not edit.
"""Store methods that load states and handle commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import UUID

from indelible.aggregates import command_handler, state_loader
from indelible.aggregates.aggregate import Aggregate
from indelible.aggregates.command_handler import CommandHandler, CommandResult
from indelible.aggregates.decider import Decider
from indelible.aggregates.state_loader import LoadedState, StateLoader
from indelible.core.timestamps import AsOf
from indelible.query import AppendCondition

from .base import StoreBase

Command = TypeVar("Command")
State = TypeVar("State")
Event = TypeVar("Event")
Returned = TypeVar("Returned")
Object = TypeVar("Object", bound=Aggregate[Any])


class AggregateMethods(StoreBase):
    """The methods of an `EventStore` that load states and handle commands."""

    @overload
    def load(
        self,
        stream: str,
        decider: Decider[Any, State, Any],
        *,
        must_exist: bool = False,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> LoadedState[State]: ...

    @overload
    def load(
        self,
        stream: str,
        decider: type[Object],
        *,
        must_exist: bool = False,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Object: ...

    def load(
        self,
        stream: str,
        decider: Decider[Any, State, Any] | type[Object],
        *,
        must_exist: bool = False,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> LoadedState[State] | Object:
        """Load the state of a decider, or an aggregate, from the events of a stream.

        Args:
            stream: the stream. If it does not exist, you get the initial state at version -1.
            decider: a `Decider`, or a subclass of `Aggregate`.
            must_exist: raise `StreamNotFound` if the stream does not exist.
            as_of: use only events recorded by this time or position, as for `read`.
            valid_at: use only facts that hold at this time, in order of valid time, as for `read`.

        Returns:
            For a decider a `LoadedState` with the state and its version, else the aggregate.

        Raises:
            StreamNotFound: the stream does not exist and `must_exist` is true.
            StreamErased: events of the stream were erased, so the state cannot be loaded.
            EpochMismatch, UnsupportedIsolationLevel, UnknownEventType, DecodingFailed,
                InvalidInput: as for `read`.

        Example:
            ```python
            account = store.load("account-3", accounts)
            print(account.state.balance, "at version", account.version)
            monday = store.load("delivery-17", Delivery, as_of=last_monday)
            ```
        """
        begun = state_loader.loading(
            self._append_settings.codec, stream, decider, as_of=as_of, valid_at=valid_at
        )
        loaded = self._engine.run(state_loader.load(begun, must_exist=must_exist))
        self._keep_snapshot(begun)
        return loaded  # type: ignore[no-any-return]

    @overload
    def handle(
        self,
        stream: str,
        decider: Decider[Command, State, Event],
        command: Command,
        *,
        command_id: UUID | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> CommandResult[State, Event]: ...

    @overload
    def handle(
        self,
        stream: str,
        decider: type[Object],
        command: Callable[[Object], Returned],
        *,
        command_id: UUID | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> CommandResult[Object, Any, Returned]: ...

    def handle(
        self,
        stream: str,
        decider: Any,
        command: Any,
        *,
        command_id: UUID | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> CommandResult[Any, Any, Any]:
        """Handle a command: load the state, decide, and append the new events.

        If another writer appends in between, the newer events are loaded and the command is
        decided again (optimistic concurrency).

        Args:
            stream: the stream.
            decider: a `Decider`, or a subclass of `Aggregate`.
            command: the command for the decider's `decide`; for an aggregate, a function that is
                called with it. `decide` and the function run once per attempt, so they must have
                no side effects. Both are plain functions, also with an async store.
            command_id: makes the command idempotent. The event ids are derived from it and the
                name of the stream. If events of this command are already stored, its first result
                is returned. A command that recorded no events is decided again.
            condition: an append condition, as for `append`. It is checked when events are
                appended.
            channel: the stream's channel, as for `append`.
            metadata: metadata for all events of the command.
            attempts: the largest number of attempts. Before each retry the call waits for a short
                random time.

        Returns:
            A `CommandResult`: the state after the command, its version, the recorded events and
            the append result. For an aggregate it also has the return value of the function.

        Raises:
            WrongExpectedVersion: another writer appended first at every attempt.
            AppendConditionFailed: an event conflicts with the condition.
            StreamErased: events of the stream were erased, so the state cannot be loaded.
            StreamClosed, ChannelMismatch, DuplicateEvent, ConnectionLost: as for `append`.
            UnknownEventType, DecodingFailed: an event does not fit the registered classes.
            InvalidInput: an argument is wrong, or a new event cannot be stored or read back.

        Example:
            ```python
            handled = store.handle(
                "account-3", accounts, Withdraw(20), command_id=request_id
            )
            print(handled.state.balance)
            store.handle("delivery-17", Delivery, lambda found: found.cancel("no driver"))
            ```
        """
        begun = CommandHandler(
            self._append_settings,
            stream,
            decider,
            command,
            command_id=command_id,
            condition=condition,
            channel=channel,
            metadata=metadata,
            attempts=attempts,
        )
        while (pause := self._engine.run(begun.attempt())) is not None:
            self._engine.wait(pause)
        self._keep_snapshot(begun.loading)
        return begun.handled

    @contextmanager
    def writing(
        self,
        aggregate: type[Object],
        stream: str,
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterator[Object]:
        """Load an aggregate, and append the events that the block records.

        The events are appended when the block ends. The version of the stream is checked then,
        even if nothing was recorded. If the block raises an error, nothing is appended. The stream
        is not locked while the block runs.

        Args:
            aggregate: a subclass of `Aggregate`.
            stream: the stream.
            condition: an append condition, as for `append`. It is checked when the block ends,
                even if nothing was recorded.
            channel: the stream's channel, as for `append`.
            metadata: metadata for all events of the block.

        Returns:
            A context manager that yields the aggregate. After the block its `version` is the new
            version, its `changes` are empty, and `stored` is the append result.

        Raises:
            WrongExpectedVersion: another writer appended first. The block cannot be repeated; use
                `handle` with a function for automatic retries.
            AppendConditionFailed: an event conflicts with the condition.
            StreamErased, StreamClosed, ChannelMismatch, ConnectionLost, UnknownEventType,
                DecodingFailed, InvalidInput: as for `handle`.

        Example:
            ```python
            with store.writing(Delivery, "delivery-17") as delivery:
                delivery.cancel("no driver")
            print(delivery.version)
            ```
        """
        begun = command_handler.begin(self._append_settings, aggregate, stream)
        self._engine.run(begun.load())
        yield begun.state
        self._engine.run(
            command_handler.finish(
                self._append_settings,
                stream,
                begun.state,
                condition=condition,
                channel=channel,
                metadata=metadata,
            )
        )
        self._keep_snapshot(begun)

    def _keep_snapshot(self, begun: StateLoader[Any]) -> None:
        if begun.has_snapshot_to_take:
            self._engine.run_best_effort(begun.take_snapshot())
