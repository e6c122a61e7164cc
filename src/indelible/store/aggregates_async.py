"""Load states and handle commands: methods of the async store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import UUID

from indelible.aggregates import command_handler, state_loader
from indelible.aggregates.aggregate import Aggregate
from indelible.aggregates.command_handler import CommandHandler, CommandResult
from indelible.aggregates.decider import Decider
from indelible.aggregates.state_loader import LoadedState, StateLoader
from indelible.core.operation import documented_as
from indelible.core.timestamps import AsOf

from .aggregates import AggregateMethods
from .base_async import AsyncStoreBase

Command = TypeVar("Command")
State = TypeVar("State")
Event = TypeVar("Event")
Object = TypeVar("Object", bound=Aggregate[Any])


@documented_as(AggregateMethods)
class AsyncAggregateMethods(AsyncStoreBase):
    """The part of an `AsyncEventStore` that handles commands."""

    @overload
    async def load(
        self,
        stream: str,
        decider: Decider[Any, State, Any],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> LoadedState[State]: ...

    @overload
    async def load(
        self,
        stream: str,
        decider: type[Object],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Object: ...

    async def load(
        self,
        stream: str,
        decider: Decider[Any, State, Any] | type[Object],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> LoadedState[State] | Object:
        begun = state_loader.loading(
            self._writing.codec, stream, decider, as_of=as_of, valid_at=valid_at
        )
        loaded = await self._engine.run(state_loader.load(begun))
        await self._keep_snapshot(begun)
        return loaded  # type: ignore[no-any-return]

    @overload
    async def handle(
        self,
        stream: str,
        decider: Decider[Command, State, Event],
        command: Command,
        *,
        command_id: UUID | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> CommandResult[State, Event]: ...

    @overload
    async def handle(
        self,
        stream: str,
        decider: type[Object],
        command: Callable[[Object], object],
        *,
        command_id: UUID | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> CommandResult[Object, Any]: ...

    async def handle(
        self,
        stream: str,
        decider: Any,
        command: Any,
        *,
        command_id: UUID | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> CommandResult[Any, Any]:
        begun = CommandHandler(
            self._writing,
            stream,
            decider,
            command,
            command_id=command_id,
            channel=channel,
            metadata=metadata,
            attempts=attempts,
        )
        while (pause := await self._engine.run(begun.attempt())) is not None:
            await self._engine.wait(pause)
        await self._keep_snapshot(begun.loading)
        return begun.handled

    @asynccontextmanager
    async def writing(
        self,
        aggregate: type[Object],
        stream: str,
        *,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Object]:
        begun = command_handler.begin(self._writing, aggregate, stream)
        await self._engine.run(begun.load())
        yield begun.state
        await self._engine.run(
            command_handler.finish(
                self._writing, stream, begun.state, channel=channel, metadata=metadata
            )
        )
        await self._keep_snapshot(begun)

    async def _keep_snapshot(self, begun: StateLoader[Any]) -> None:
        if begun.has_snapshot_to_take:
            await self._engine.run_aside(begun.take_snapshot())
