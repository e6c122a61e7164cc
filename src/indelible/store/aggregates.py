# Generated from aggregates_async.py; do not edit.
"""Load states and handle commands: methods of the store."""

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
    """The part of an `EventStore` that handles commands."""

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
        """Load what the events of a stream make of a decider's initial state, or an aggregate.

        Args:
            stream: the stream; one never written gives the initial state, at version -1.
            decider: a `Decider`, or a subclass of `Aggregate`.
            must_exist: raise `StreamNotFound` if the stream was never written.
            as_of: only what was recorded by then, as for `read`.
            valid_at: only the facts that hold at a moment, in order of valid time, as for `read`.

        Returns:
            The state and its version; of an aggregate, the aggregate.

        Raises:
            StreamNotFound: the stream was never written, and `must_exist` was asked for.
            StreamErased: events were erased, so that there is no state any more.
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
        """Handle a command: load the state, decide, and append what follows.

        Where somebody else appends in between, only what is new is read, and it is decided anew.

        Args:
            stream: the stream.
            decider: a `Decider`, or a subclass of `Aggregate`.
            command: what the decider's `decide` takes; for an aggregate, a function that is called
                with it. Either may be called at each attempt, so it should do nothing but decide; a
                plain function, also of an async store.
            command_id: makes the command idempotent. The ids of its events are made from it and
                the stream's name, and a command of which an event is there is not decided again:
                what came of it then is returned, wherever the stream stands by now. A command that
                recorded nothing left nothing to know it by, and is decided again.
            condition: what must not stand in the log besides, as for `append`. It is checked when
                events are appended.
            channel: the stream's channel, as for `append`.
            metadata: what is known about all of the events.
            attempts: how often to decide at most. Between two attempts it waits for a moment of
                random length.

        Returns:
            The state after the command, its version, the events recorded, what the append did,
            and what the function returned that was called with the aggregate.

        Raises:
            WrongExpectedVersion: somebody was faster at every attempt.
            AppendConditionFailed: an event stands in the way of the condition.
            StreamErased: events were erased, so that there is no state to decide on.
            StreamClosed, ChannelMismatch, DuplicateEvent, ConnectionLost: as for `append`.
            UnknownEventType, DecodingFailed: an event does not fit the registered classes.
            InvalidInput: an argument is wrong, or what was decided cannot be appended, or not be
                read again.

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
        """Load an aggregate, change it, and append what it recorded when the block ends.

        The version is checked when the block ends, also where nothing was recorded: what the block
        has seen still held. Nothing is sent where an error leaves the block. Nothing is locked
        meanwhile.

        Args:
            aggregate: a subclass of `Aggregate`.
            stream: the stream.
            condition: what must not stand in the log besides, as for `append`; checked when the
                block ends, also where nothing was recorded.
            channel: the stream's channel, as for `append`.
            metadata: what is known about all of the events.

        Returns:
            A context manager that gives the aggregate. After the block its `version` is the new
            one, its `changes` are none, and `stored` is what the append did.

        Raises:
            WrongExpectedVersion: somebody was faster. A block cannot be run again; `handle` takes a
                function, which can.
            AppendConditionFailed: an event stands in the way of the condition.
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
