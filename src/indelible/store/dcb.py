# Generated from dcb_async.py; do not edit.
"""Decide across streams: methods of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias, TypeVar, overload

from indelible.core.retry import RetryBudget
from indelible.dcb import decide as decisions
from indelible.dcb import matching_events
from indelible.dcb.decide import Decision, States
from indelible.dcb.decision_model import DecisionModel
from indelible.dcb.matching_events import MatchingEvents
from indelible.errors import AppendConditionFailed
from indelible.events import AppendResult
from indelible.query import Query

from .base import StoreBase

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
Deciding: TypeAlias = AbstractContextManager[Decision[States]]


class DecisionMethods(StoreBase):
    """The part of an `EventStore` that decides across streams."""

    def read_matching(self, query: Query) -> MatchingEvents:
        """Read what a decision is made on: every visible event that matches a query.

        Not only up to the head: the append condition that takes the result's `marker` holds all
        against the decision that was not read. All comes at once, in one round trip; name tags in
        the query, which an index leads to.

        Args:
            query: which events.

        Returns:
            The events, in order of position, and the marker.

        Raises:
            InvalidInput: the query is none.
            UnsupportedIsolationLevel: in a transaction whose snapshot may be older than the head.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.

        Example:
            ```python
            seats = Query(types=["SeatTaken", "SeatFreed"], tags="flight:LH400")
            found = store.read_matching(seats)
            if taken(found) < 200:
                store.append(
                    None,
                    NewEvent("SeatTaken", {"seat": "12A"}, tags=["flight:LH400"]),
                    condition=AppendCondition(seats, after=found.marker),
                )
            ```
        """
        return self._engine.run(matching_events.read_matching(self._append_settings.codec, query))

    @overload
    def read_states(self, a: DecisionModel[A], /) -> tuple[A]: ...

    @overload
    def read_states(self, a: DecisionModel[A], b: DecisionModel[B], /) -> tuple[A, B]: ...

    @overload
    def read_states(
        self, a: DecisionModel[A], b: DecisionModel[B], c: DecisionModel[C], /
    ) -> tuple[A, B, C]: ...

    @overload
    def read_states(self, *models: DecisionModel[Any]) -> tuple[Any, ...]: ...

    def read_states(self, *models: DecisionModel[Any]) -> tuple[Any, ...]:
        """Read the states of decision models, without a decision: for a form, or a report.

        Args:
            models: the models. All of them are read at once, in one round trip.

        Returns:
            Their states, in order.

        Raises:
            UnsupportedIsolationLevel: in a transaction whose snapshot may be older than the head.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            InvalidInput: no models.

        Example:
            ```python
            exists, capacity = store.read_states(course_exists("c1"), course_capacity("c1"))
            ```
        """
        decision = self._engine.run(decisions.begin(self._append_settings.codec, models))
        return decision.states  # type: ignore[no-any-return]

    @overload
    def decide(
        self, a: DecisionModel[A], /, *, metadata: Mapping[str, Any] | None = None
    ) -> Deciding[tuple[A]]: ...

    @overload
    def decide(
        self,
        a: DecisionModel[A],
        b: DecisionModel[B],
        /,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> Deciding[tuple[A, B]]: ...

    @overload
    def decide(
        self,
        a: DecisionModel[A],
        b: DecisionModel[B],
        c: DecisionModel[C],
        /,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> Deciding[tuple[A, B, C]]: ...

    @overload
    def decide(
        self,
        a: DecisionModel[A],
        b: DecisionModel[B],
        c: DecisionModel[C],
        d: DecisionModel[D],
        /,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> Deciding[tuple[A, B, C, D]]: ...

    @overload
    def decide(
        self,
        a: DecisionModel[A],
        b: DecisionModel[B],
        c: DecisionModel[C],
        d: DecisionModel[D],
        e: DecisionModel[E],
        /,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> Deciding[tuple[A, B, C, D, E]]: ...

    @overload
    def decide(
        self, *models: DecisionModel[Any], metadata: Mapping[str, Any] | None = None
    ) -> Deciding[tuple[Any, ...]]: ...

    @contextmanager
    def decide(
        self, *models: DecisionModel[Any], metadata: Mapping[str, Any] | None = None
    ) -> Iterator[Decision[Any]]:
        """Decide on what several models say, across streams.

        All of them are read at once. What the block notes with `decision.append` is appended when
        it ends, all or none, if no event that any of the models would have seen has come
        meanwhile. Nothing is sent where nothing was noted, or an error leaves the block. Nothing is
        locked while you decide.

        Args:
            models: what the decision must know.
            metadata: metadata of all events that are appended, as for `append_many`.

        Returns:
            A context manager that gives the `Decision`.

        Raises:
            AppendConditionFailed: such an event has come; it is in the error's `events`. A block
                cannot be run again; `decide_with` can.
            UnsupportedIsolationLevel: in a transaction whose snapshot may be older than the head.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            WrongExpectedVersion, ChannelMismatch, DuplicateEvent, InvalidInput, ConnectionLost:
                as for `append_many`, when the block ends.

        Example:
            ```python
            with store.decide(course_exists("c1"), course_capacity("c1")) as decision:
                exists, capacity = decision.states
                if not exists or capacity < 1:
                    raise CourseFull("c1")
                decision.append(None, StudentSubscribed(course="c1", student="s1"))
            ```
        """
        decision = self._engine.run(decisions.begin(self._append_settings.codec, models))
        yield decision
        self._engine.run(decisions.finish(self._append_settings, decision, metadata=metadata))

    def decide_with(
        self,
        decide: Callable[..., Any],
        *models: DecisionModel[Any],
        attempts: int = 10,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[AppendResult]:
        """Decide with a function, and anew where somebody was faster.

        Args:
            decide: takes what the models say, in their order, and returns what to append: nothing
                (None), an event, a `StreamAppend`, or a list of these. An event gets a stream of
                its own. Called at each attempt, so it should do nothing else; a plain function,
                also of an async store.
            models: what the decision must know.
            attempts: how often to decide at most. Between two attempts it waits for a moment of
                random length.
            metadata: metadata of all events that are appended, as for `append_many`.

        Returns:
            A result for each event without a stream and each `StreamAppend`, in their order.

        Raises:
            AppendConditionFailed: somebody was faster at every attempt.
            UnsupportedIsolationLevel: in a transaction whose snapshot may be older than the head.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            WrongExpectedVersion, ChannelMismatch, DuplicateEvent, InvalidInput, ConnectionLost:
                as for `append_many`.

        Example:
            ```python
            def subscribe(exists: bool, capacity: int) -> StudentSubscribed:
                if not exists or capacity < 1:
                    raise CourseFull("c1")
                return StudentSubscribed(course="c1", student="s1")

            store.decide_with(subscribe, course_exists("c1"), course_capacity("c1"))
            ```
        """
        left = RetryBudget(attempts)
        while True:
            try:
                return self._engine.run(
                    decisions.decide_with(self._append_settings, decide, models, metadata=metadata)
                )
            except AppendConditionFailed as refusal:
                pause = left.pause_after(refusal)
            self._engine.wait(pause)
