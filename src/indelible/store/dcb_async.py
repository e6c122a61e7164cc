"""Decide across streams: methods of the async store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

from indelible.core.operation import documented_as
from indelible.core.retry import RetryBudget
from indelible.dcb import decide as decisions
from indelible.dcb import matching_events
from indelible.dcb.decide import Decision
from indelible.dcb.decision_model import DecisionModel
from indelible.dcb.matching_events import MatchingEvents
from indelible.errors import AppendConditionFailed
from indelible.events import AppendResult
from indelible.query import Query

from .base_async import AsyncStoreBase
from .dcb import AsyncDeciding, DecisionMethods

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")


@documented_as(DecisionMethods)
class AsyncDecisionMethods(AsyncStoreBase):
    """The part of an `AsyncEventStore` that decides across streams."""

    async def read_matching(self, query: Query) -> MatchingEvents:
        return await self._engine.run(matching_events.read_matching(self._writing.codec, query))

    @overload
    def decide(self, a: DecisionModel[A], /) -> AsyncDeciding[tuple[A]]: ...

    @overload
    def decide(self, a: DecisionModel[A], b: DecisionModel[B], /) -> AsyncDeciding[tuple[A, B]]: ...

    @overload
    def decide(
        self, a: DecisionModel[A], b: DecisionModel[B], c: DecisionModel[C], /
    ) -> AsyncDeciding[tuple[A, B, C]]: ...

    @overload
    def decide(
        self, a: DecisionModel[A], b: DecisionModel[B], c: DecisionModel[C], d: DecisionModel[D], /
    ) -> AsyncDeciding[tuple[A, B, C, D]]: ...

    @overload
    def decide(
        self,
        a: DecisionModel[A],
        b: DecisionModel[B],
        c: DecisionModel[C],
        d: DecisionModel[D],
        e: DecisionModel[E],
        /,
    ) -> AsyncDeciding[tuple[A, B, C, D, E]]: ...

    @overload
    def decide(self, *models: DecisionModel[Any]) -> AsyncDeciding[tuple[Any, ...]]: ...

    @asynccontextmanager
    async def decide(self, *models: DecisionModel[Any]) -> AsyncIterator[Decision[Any]]:
        decision = await self._engine.run(decisions.begin(self._writing.codec, models))
        yield decision
        await self._engine.run(decisions.finish(self._writing, decision))

    async def decide_with(
        self, decide: Callable[..., Any], *models: DecisionModel[Any], attempts: int = 10
    ) -> list[AppendResult]:
        left = RetryBudget(attempts)
        while True:
            try:
                return await self._engine.run(decisions.decide_with(self._writing, decide, models))
            except AppendConditionFailed as refusal:
                pause = left.pause_after(refusal)
            await self._engine.wait(pause)
