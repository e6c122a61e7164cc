# Generated from dcb_async.py; do not edit.
"""Store methods that decide across streams (Dynamic Consistency Boundary)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    """The methods of an `EventStore` that decide across streams."""

    def read_matching(self, query: Query) -> MatchingEvents:
        """Read all visible events that match a query, as the basis of a decision.

        The result includes events after the head. An append condition with the `marker` of the
        result fails if any other matching event exists. All events are read in one round trip.
        Use tags in the query, because tags have an index.

        Args:
            query: the events to read.

        Returns:
            The events, in order of position, and the marker.

        Raises:
            InvalidInput: `query` is not a `Query`.
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
        """Read the states of decision models without a decision, for example for a form.

        Args:
            models: the models. All are read in one round trip.

        Returns:
            The states of the models, in order.

        Raises:
            UnsupportedIsolationLevel: in a transaction whose snapshot may be older than the head.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            InvalidInput: no model was passed.

        Example:
            ```python
            exists, capacity = store.read_states(course_exists("c1"), course_capacity("c1"))
            ```
        """
        decision = self._engine.run(decisions.begin(self._append_settings.codec, models))
        return decision.states  # type: ignore[no-any-return]

    @overload
    def decide(self, a: DecisionModel[A], /) -> Deciding[tuple[A]]: ...

    @overload
    def decide(self, a: DecisionModel[A], b: DecisionModel[B], /) -> Deciding[tuple[A, B]]: ...

    @overload
    def decide(
        self, a: DecisionModel[A], b: DecisionModel[B], c: DecisionModel[C], /
    ) -> Deciding[tuple[A, B, C]]: ...

    @overload
    def decide(
        self, a: DecisionModel[A], b: DecisionModel[B], c: DecisionModel[C], d: DecisionModel[D], /
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
    ) -> Deciding[tuple[A, B, C, D, E]]: ...

    @overload
    def decide(self, *models: DecisionModel[Any]) -> Deciding[tuple[Any, ...]]: ...

    @contextmanager
    def decide(self, *models: DecisionModel[Any]) -> Iterator[Decision[Any]]:
        """Decide across streams, based on the states of several models.

        All models are read at once. The events that the block passes to `decision.append` are
        appended when it ends, all or none. The append fails if a new event matches the query of
        any model. Nothing is sent if the block appends nothing or raises an error. Nothing is
        locked while you decide.

        Args:
            models: the models that the decision needs.

        Returns:
            A context manager that yields the `Decision`.

        Raises:
            AppendConditionFailed: a new event matches the query of a model; see `events` of the
                error. The block cannot be repeated; use `decide_with` for automatic retries.
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
        self._engine.run(decisions.finish(self._append_settings, decision))

    def decide_with(
        self, decide: Callable[..., Any], *models: DecisionModel[Any], attempts: int = 10
    ) -> list[AppendResult]:
        """Decide with a function, and retry if another writer appended a conflicting event.

        Args:
            decide: a function that takes the states of the models, in their order. It returns
                None, an event, a `StreamAppend`, or a list of these. An event gets its own stream.
                The function runs once per attempt, so it must have no side effects. It is a plain
                function, also with an async store.
            models: the models that the decision needs.
            attempts: the largest number of attempts. Before each retry the call waits for a short
                random time.

        Returns:
            A result for each event without a stream and each `StreamAppend`, in their order.

        Raises:
            AppendConditionFailed: another writer appended a conflicting event at every attempt.
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
                    decisions.decide_with(self._append_settings, decide, models)
                )
            except AppendConditionFailed as refusal:
                pause = left.pause_after(refusal)
            self._engine.wait(pause)
