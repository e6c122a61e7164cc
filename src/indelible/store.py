"""The two faces of the store: thin, and the same but for `async`.

What a call means is in the plans (`append`, `read`); how it reaches the database in `postgres`.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar, overload
from uuid import UUID

from . import (
    append,
    decisions,
    event_types,
    groups,
    importer,
    life,
    opening,
    operating,
    project,
    read,
    spans,
    valid,
)
from . import schema as schema_
from .aggregates import Aggregate, Decider, Handled, Loaded, handling, loading
from .aggregates.handling import Handling
from .aggregates.loading import Loading
from .attempts import Attempts
from .codec import EventClasses, Unknown
from .consumer import worker_name
from .control import AsyncProjectionControl, ProjectionControl
from .daemon import AsyncDaemon, Daemon, daemon_name
from .decisions import Decision, DecisionModel, States
from .documents import (
    AsyncDocuments,
    Documents,
    fold_live,
    fold_live_async,
    verify,
    verify_async,
)
from .due import DueFollowing
from .errors import AppendConditionFailed, InvalidInput
from .event_types import TypeCheck, TypeInfo
from .events import (
    AppendResult,
    ExpectedVersion,
    HeadInfo,
    ImportResult,
    RecordedEvent,
    StoreStats,
    StreamAppend,
    StreamChange,
    StreamInfo,
)
from .group import AsyncGroup, Group, wait_for, wait_for_async
from .groups import GroupInfo
from .importing import AsyncImportable, Importable, Importing
from .inline import AsyncInline, Inline
from .live import Live
from .moments import AsOf, Between
from .operating import ProjectionStatus
from .plan import Plan, documented_as
from .postgres import (
    AsyncBoundEngine,
    AsyncConnection,
    AsyncPoolEngine,
    BoundEngine,
    Connection,
    PoolEngine,
)
from .project import BuildInfo
from .projection import Described, DocumentProjection, Projection
from .projector import AsyncProjector, Projector
from .query import AppendCondition, Query
from .read import Matching
from .rebuild import Rebuilding
from .rebuilder import Report, rebuild_projection, rebuild_projection_async
from .subscribe import Following, Start
from .subscription import AsyncSubscription, Subscription
from .tending import Duty
from .verify import Verification, Verifying
from .wakeup import Wakeup

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
Command = TypeVar("Command")
State = TypeVar("State")
Event = TypeVar("Event")
Object = TypeVar("Object", bound=Aggregate[Any])
P = TypeVar("P")

Deciding: TypeAlias = AbstractContextManager[Decision[States]]
AsyncDeciding: TypeAlias = AbstractAsyncContextManager[Decision[States]]

MAX_EVENT_BYTES = 1024 * 1024
_CATCH_UP_SECONDS = 10.0
"""How long `catch_up` waits for others."""


def _report_nothing(_: Rebuilding) -> None:
    """Report to nobody."""


_NOT_IN_A_TRANSACTION = (
    "a transaction ends, and what follows the log does not: call this on the store itself"
)
_COMMITS_BY_ITSELF = (
    "an import commits chunk by chunk, since readers of the log wait behind an open transaction:"
    " call this on the store itself"
)
_HAS_NO_SNAPSHOT = (
    "a projection is verified in a snapshot of its own: call this on the store itself"
)
_PASSES_BY_PROJECTIONS = (
    "an import does not bring inline projections up to date: import through a store that is"
    " connected without them, and have them built anew"
)


class EventStore:
    """A store of events, for code without `async`. Open one with `connect`.

    Any number of threads may use one store at once.

    Example:
        ```python
        with EventStore.connect(events=[OrderCreated, OrderCanceled]) as store:
            store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            for event in store.read("order-17"):
                print(event.version, event.type, event.data)
        ```
    """

    def __init__(
        self,
        engine: PoolEngine | BoundEngine,
        writing: append.Writing,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._engine = engine
        self._writing = writing
        self._wakeup = wakeup

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        schema: str = "indelible",
        events: EventClasses = (),
        unknown: Unknown = "raise",
        channel: str | None = None,
        inline: Iterable[Projection | type[Projection]] = (),
        migrate: bool | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
        pool_size: int = 10,
        timeout: float = 30.0,
    ) -> EventStore:
        """Open a store.

        Args:
            url: where the database is: `postgresql://…`, a connection string of libpq, or
                `embedded://` for the embedded PostgreSQL (`embedded:///some/folder` for one in a
                folder of its own). By default `$INDELIBLE_URL`, else the embedded one.
            schema: the PostgreSQL schema that the store lives in; several stores may share a
                database.
            events: the event classes: classes, a union of classes, or a mapping from type names to
                classes; and `Upcaster` values for what was stored in earlier shapes. Without any,
                the data of every event is plain JSON data.
            unknown: what to do with a stored type that has no class: `"raise"` an
                `UnknownEventType`, or `"keep"` its data as plain JSON data.
            channel: the channel of every stream that this store appends to. By default a stream's
                name up to the first `-`.
            inline: the projections that each append brings up to date in its own transaction.
                Every process that appends has to name them.
            migrate: make the store, or bring it up to date, first. By default only for the
                embedded database.
            max_event_bytes: how many bytes of data and metadata an event may have.
            pool_size: how many connections to open at most.
            timeout: how many seconds a call may wait for a connection, and may go on trying when
                one was lost.

        Returns:
            The store: a context manager that closes it.

        Raises:
            InvalidInput: an argument is wrong.
            ProjectionChanged: an inline projection was begun in another way under its version.
            DatabaseUnreachable: no connection could be made.
            SchemaMissing, SchemaOutdated, SchemaTooNew: there is no store, or an older or newer
                one, in the schema.
            EmbeddedUnavailable: the embedded PostgreSQL cannot be used here.
        """
        opened = opening.prepare(
            url,
            schema=schema,
            events=events,
            unknown=unknown,
            channel=channel,
            migrate=migrate,
            max_event_bytes=max_event_bytes,
            pool_size=pool_size,
            timeout=timeout,
        )
        wakeup = Wakeup(opened.settings)
        kept = Inline(opened.writing.codec, inline)
        engine = PoolEngine(
            opened.settings,
            on_close=opened.release,
            on_commit=wakeup.doorbell.ring,
            on_append=kept if kept.described else None,
        )
        try:
            engine.open()
            engine.run(schema_.check(schema))
            engine.run(project.register_inline(kept.described))
        except BaseException:
            engine.close()
            raise
        return EventStore(engine, opened.writing, wakeup)

    def append(
        self,
        stream: str | None,
        events: Any,
        *,
        expected: int | ExpectedVersion | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AppendResult:
        """Append events to the end of a stream: all of them, or none.

        A retry with the same event ids (`NewEvent.id`) is safe: it stores nothing twice and
        returns the first result with `idempotent=True`.

        Args:
            stream: the stream, 1 to 255 characters. None for events that belong to no stream, for
                those who work with tags alone: each gets one of its own, `event-<id>`.
            events: one or many, in order: instances of registered classes, or `NewEvent`.
            expected: what you believe the stream's last version to be: the version you read (-1
                for a stream never written), `NO_STREAM`, `STREAM_EXISTS` or `ANY`. It may be left
                out only where there is a condition, or no stream.
            condition: what must not stand in the log, one or several; see `AppendCondition`.
            channel: the service that owns the stream; fixed by the first append. By default the
                store's channel, else the stream's name up to the first `-`.
            metadata: what is known about all of these events; an event's own wins.

        Returns:
            The facts of the last event.

        Raises:
            WrongExpectedVersion: the stream is at another version.
            AppendConditionFailed: an event stands in the way of the condition.
            StreamClosed: the stream takes no more events.
            ChannelMismatch: the stream belongs to another channel.
            DuplicateEvent: an event id is in the store already, and this is no exact retry.
            InvalidInput: an argument is wrong; nothing was sent.
            ConnectionLost: the connection broke and could not be made again in time.

        Example:
            ```python
            result = store.append("order-17", OrderTipped(2), expected=4)
            store.append("order-17", OrderCanceled("late"), expected=result.version)
            ```
        """
        return self._engine.run(
            append.append(
                self._writing,
                stream,
                events,
                expected=expected,
                condition=condition,
                channel=channel,
                metadata=metadata,
            )
        )

    def append_many(
        self,
        appends: Iterable[StreamAppend],
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
    ) -> list[AppendResult]:
        """Append to several streams in one transaction: all of it, or nothing.

        Args:
            appends: the parts; their order is the order in the log. A part without events is a
                pure check of its stream's version.
            condition: what must not stand in the log, one or several; see `AppendCondition`.

        Returns:
            A result for each part.

        Raises:
            WrongExpectedVersion: with every check that failed in `conflicts`.
            AppendConditionFailed, StreamClosed, ChannelMismatch, DuplicateEvent, InvalidInput,
                ConnectionLost: as for `append`.

        Example:
            ```python
            store.append_many([
                StreamAppend("order-17", OrderPaid(12), expected=4),
                StreamAppend("account-3", [], expected=8),
            ])
            ```
        """
        return self._engine.run(append.append_many(self._writing, appends, condition=condition))

    def import_events(
        self,
        events: Importable,
        *,
        source: str | None = None,
        keep_recorded_at: bool = False,
    ) -> ImportResult:
        """Append very many events, such as those of another store, in their order.

        They are stored in chunks of up to 10,000 events, each whole or not at all, beside whatever
        else is appended; memory stays bounded. After an interruption run it again with the same
        events: what is there is skipped. A stream that others append to meanwhile gets their
        events between two chunks.

        Args:
            events: lines of NDJSON, as `indelible log --json` writes them (of which `stream`,
                `type` and `data` must be there), `ImportEvent`, or the `RecordedEvent` of another
                store. An id is kept; a version is checked against the place that the event gets.
            source: a name for what the events come from, other for other events. Needed where
                events have no id: it is made from the source and the event's place in it, so that
                they are known again.
            keep_recorded_at: keep the time at which an event was recorded first, where it has one,
                and do not take the present time for it. It must not be in the future.

        Returns:
            How many events were imported, and how many were there already.

        Raises:
            InvalidInput: an event cannot be stored. As with the errors below, the message says
                which line or event it is; nothing of its chunk is stored, the chunks before stay.
            DuplicateEvent: an id is there with other content, in another place or another order.
            WrongExpectedVersion: the version that an event has is not the next one of its stream.
            ChannelMismatch: the stream belongs to another channel.
            PermissionDenied: only the owner of the store may.
            ConnectionLost: the connection broke and could not be made again in time.

        Example:
            ```python
            with open("log.ndjson", "rb") as lines:
                result = store.import_events(lines, keep_recorded_at=True)
            print(result.imported, "imported,", result.skipped, "were there")
            ```
        """
        if not isinstance(self._engine, PoolEngine):
            raise InvalidInput(_COMMITS_BY_ITSELF)
        if self._engine.has_inline:
            raise InvalidInput(_PASSES_BY_PROJECTIONS)
        importing = Importing(self._writing, source=source, keep_recorded_at=keep_recorded_at)
        importer.import_events(self._engine, importing, events)
        return importing.result

    @contextmanager
    def transaction(self) -> Iterator[BoundEventStore]:
        """Open a transaction for several appends and reads, and for SQL of your own.

        What it appended is there for all at once when the block ends, or not at all when an error
        leaves the block. Keep it short: readers of the log wait behind it. An error of the store
        inside (a wrong version, say) leaves the transaction usable; you may catch it and go on.

        Returns:
            A context manager that gives a store bound to the transaction; its `connection` is
            psycopg's.

        Example:
            ```python
            with store.transaction() as transaction:
                transaction.append("order-17", OrderPaid(12), expected=4)
                transaction.connection.execute("UPDATE …")
            ```
        """
        with self._engine.transaction() as engine:
            yield BoundEventStore(engine, self._writing)

    def bind(self, connection: Connection) -> BoundEventStore:
        """Use the store through a connection of yours, inside its transaction.

        You commit; nothing is repeated when the connection is lost.

        Args:
            connection: a psycopg connection. Django's is `connection.connection`.

        Returns:
            A store that appends and reads through the connection.

        Raises:
            InvalidInput: it is no psycopg connection of this colour.

        Example:
            ```python
            with django.db.transaction.atomic():
                order.save()
                store.bind(django.db.connection.connection).append(…)
            ```
        """
        return BoundEventStore(self._engine.bind(connection), self._writing)

    def read(
        self,
        stream: str,
        *,
        from_version: int = 0,
        to_version: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        must_exist: bool = False,
        as_of: AsOf | None = None,
        recorded_between: Between | None = None,
        valid_at: datetime | None = None,
        valid_between: Between | None = None,
    ) -> StreamEvents:
        """Read a stream, in order of version.

        Events are read in pages as you take them; memory stays bounded for any length.

        Args:
            stream: the stream.
            from_version: the lowest version to read.
            to_version: the highest version to read; None for no bound.
            backwards: begin at the highest version.
            limit: how many events to read at most. What upcasters made several of counts once.
            must_exist: raise `StreamNotFound` for a stream never written, and give no events
                otherwise.
            as_of: only what was recorded by then: a moment, or the position or checkpoint that
                stands for one.
            recorded_between: only what was recorded from the first moment on and before the
                second.
            valid_at: only the facts that hold at a moment: those with this valid time or an
                earlier one; in order of valid time, and of position where that is the same.
            valid_between: only the facts with a valid time from the first moment on and before
                the second, in that order.

        Returns:
            An iterator over the events, whose `version` is the highest version read so far.

        Raises:
            StreamNotFound: the stream was never written, and `must_exist` was asked for.
            EpochChanged: `as_of` is a checkpoint of a history before the store was restored.
            IsolationTooStrict: a moment of recorded time in a REPEATABLE READ or SERIALIZABLE
                transaction of `bind`.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            InvalidInput: an argument is wrong.

        Example:
            ```python
            last = next(store.read("order-17", backwards=True, limit=1))
            believed = store.read("menu-3", as_of=monday, valid_at=friday)
            ```
        """
        return StreamEvents(
            self._engine,
            valid.stream_reading(
                self._writing.codec,
                stream,
                from_version=from_version,
                to_version=to_version,
                backwards=backwards,
                limit=limit,
                must_exist=must_exist,
                as_of=as_of,
                recorded_between=recorded_between,
                valid_at=valid_at,
                valid_between=valid_between,
            ),
        )

    def read_all(
        self,
        query: Query | None = None,
        *,
        after: int = 0,
        backwards: bool = False,
        limit: int | None = None,
        as_of: AsOf | None = None,
        recorded_between: Between | None = None,
        valid_at: datetime | None = None,
        valid_between: Between | None = None,
    ) -> Log:
        """Read the log, in order of position, up to the head.

        What this returns never changes: no event can appear any more among those read.

        Args:
            query: which events; None for all.
            after: the position after which to begin, such as the `head` of an earlier read.
            backwards: begin at the head, and go down to `after`.
            limit: how many events to read at most.
            as_of: only what was recorded by then: a moment, or the position or checkpoint that
                stands for one. Once the head `has_passed` the moment, the answer is the same for
                ever.
            recorded_between: only what was recorded from the first moment on and before the
                second.
            valid_at: only the facts that hold at a moment: those with this valid time or an
                earlier one; in order of valid time, and of position where that is the same.
            valid_between: only the facts with a valid time from the first moment on and before
                the second, in that order.

        Returns:
            An iterator over the events; its `head` is the position that it is complete up to.

        Raises:
            EpochChanged: `as_of` is a checkpoint of a history before the store was restored.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.
            IsolationTooStrict: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
            InvalidInput: an argument is wrong.

        Example:
            ```python
            log = store.read_all(Query(channel="delivery"), after=checkpoint)
            for event in log:
                print(event.position, event.type)
            checkpoint = log.head
            ```
        """
        return Log(
            self._engine,
            valid.log_reading(
                self._writing.codec,
                query,
                after=after,
                backwards=backwards,
                limit=limit,
                as_of=as_of,
                recorded_between=recorded_between,
                valid_at=valid_at,
                valid_between=valid_between,
            ),
        )

    def read_matching(self, query: Query) -> Matching:
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
            IsolationTooStrict: in a transaction whose snapshot may be older than the head.
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
        return self._engine.run(read.matching(self._writing.codec, query))

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
        """Decide on what several models say, across streams.

        All of them are read at once. What the block notes with `decision.append` is appended when
        it ends, all or none, if no event that any of the models would have seen has come
        meanwhile. Nothing is sent where nothing was noted, or an error leaves the block. Nothing is
        locked while you decide.

        Args:
            models: what the decision must know.

        Returns:
            A context manager that gives the `Decision`.

        Raises:
            AppendConditionFailed: such an event has come; it is in the error's `events`. A block
                cannot be run again; `decide_with` can.
            IsolationTooStrict: in a transaction whose snapshot may be older than the head.
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
        decision = self._engine.run(decisions.begin(self._writing.codec, models))
        yield decision
        self._engine.run(decisions.finish(self._writing, decision))

    def decide_with(
        self,
        decide: Callable[..., Any],
        *models: DecisionModel[Any],
        attempts: int = 10,
    ) -> list[AppendResult]:
        """Decide with a function, and anew where somebody was faster.

        Args:
            decide: takes what the models say, in their order, and returns what to append: nothing
                (None), an event, a `StreamAppend`, or a list of these. An event gets a stream of
                its own. Called at each attempt, so it should do nothing else; a plain function in
                both colours.
            models: what the decision must know.
            attempts: how often to decide at most. Between two attempts it waits for a moment of
                random length.

        Returns:
            A result for each event without a stream and each `StreamAppend`, in their order.

        Raises:
            AppendConditionFailed: somebody was faster at every attempt.
            IsolationTooStrict: in a transaction whose snapshot may be older than the head.
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
        left = Attempts(attempts)
        while True:
            try:
                return self._engine.run(decisions.decide_with(self._writing, decide, models))
            except AppendConditionFailed as refusal:
                pause = left.pause_after(refusal)
            self._engine.wait(pause)

    @overload
    def load(
        self,
        stream: str,
        decider: Decider[Any, State, Any],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Loaded[State]: ...

    @overload
    def load(
        self,
        stream: str,
        decider: type[Object],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Object: ...

    def load(
        self,
        stream: str,
        decider: Decider[Any, State, Any] | type[Object],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Loaded[State] | Object:
        """Load what the events of a stream make of a decider's initial state, or an aggregate.

        Args:
            stream: the stream; one never written gives the initial state, at version -1.
            decider: a `Decider`, or a subclass of `Aggregate`.
            as_of: only what was recorded by then, as for `read`.
            valid_at: only the facts that hold at a moment, in order of valid time, as for `read`.

        Returns:
            The state and its version; of an aggregate, the aggregate.

        Raises:
            StreamErased: events were erased, so that there is no state any more.
            EpochChanged, IsolationTooStrict, UnknownEventType, DecodingFailed, InvalidInput: as
                for `read`.

        Example:
            ```python
            account = store.load("account-3", accounts)
            print(account.state.balance, "at version", account.version)
            monday = store.load("delivery-17", Delivery, as_of=last_monday)
            ```
        """
        begun = loading.loading(
            self._writing.codec, stream, decider, as_of=as_of, valid_at=valid_at
        )
        loaded = self._engine.run(loading.load(begun))
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
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> Handled[State, Event]: ...

    @overload
    def handle(
        self,
        stream: str,
        decider: type[Object],
        command: Callable[[Object], object],
        *,
        command_id: UUID | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> Handled[Object, Any]: ...

    def handle(
        self,
        stream: str,
        decider: Any,
        command: Any,
        *,
        command_id: UUID | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        attempts: int = 10,
    ) -> Handled[Any, Any]:
        """Handle a command: load the state, decide, and append what follows.

        Where somebody else appends in between, only what is new is read, and it is decided anew.

        Args:
            stream: the stream.
            decider: a `Decider`, or a subclass of `Aggregate`.
            command: what the decider's `decide` takes; for an aggregate, a function that is called
                with it. Either may be called at each attempt, so it should do nothing but decide; a
                plain function in both colours.
            command_id: makes the command idempotent. The ids of its events are made from it and
                the stream's name, and a command of which an event is there is not decided again:
                what came of it then is returned, wherever the stream stands by now. A command that
                recorded nothing left nothing to know it by, and is decided again.
            channel: the stream's channel, as for `append`.
            metadata: what is known about all of the events.
            attempts: how often to decide at most. Between two attempts it waits for a moment of
                random length.

        Returns:
            The state after the command, its version, the events recorded, and what the append did.

        Raises:
            WrongExpectedVersion: somebody was faster at every attempt.
            StreamErased: events were erased, so that there is no state to decide on.
            StreamClosed, ChannelMismatch, DuplicateEvent, ConnectionLost: as for `append`.
            UnknownEventType, DecodingFailed: an event does not fit the registered classes.
            InvalidInput: an argument is wrong, or what was decided cannot be appended.

        Example:
            ```python
            handled = store.handle("account-3", accounts, Withdraw(20), command_id=request_id)
            print(handled.state.balance, handled.events)
            store.handle("delivery-17", Delivery, lambda delivery: delivery.cancel("no driver"))
            ```
        """
        begun = Handling(
            self._writing,
            stream,
            decider,
            command,
            command_id=command_id,
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
            channel: the stream's channel, as for `append`.
            metadata: what is known about all of the events.

        Returns:
            A context manager that gives the aggregate. After the block its `version` is the new
            one, its `changes` are none, and `stored` is what the append did.

        Raises:
            WrongExpectedVersion: somebody was faster. A block cannot be run again; `handle` takes a
                function, which can.
            StreamErased, StreamClosed, ChannelMismatch, ConnectionLost, UnknownEventType,
                DecodingFailed, InvalidInput: as for `handle`.

        Example:
            ```python
            with store.writing(Delivery, "delivery-17") as delivery:
                delivery.cancel("no driver")
            print(delivery.version)
            ```
        """
        begun = handling.begin(self._writing, aggregate, stream)
        self._engine.run(begun.load())
        yield begun.state
        self._engine.run(
            handling.finish(self._writing, stream, begun.state, channel=channel, metadata=metadata)
        )
        self._keep_snapshot(begun)

    def _keep_snapshot(self, begun: Loading[Any]) -> None:
        if begun.has_snapshot_to_take:
            self._engine.run_aside(begun.take_snapshot())

    def subscribe(
        self, query: Query | None = None, *, after: Start = 0, due: bool = False
    ) -> Subscription:
        """Read the log, and go on with what comes.

        Every event that matches is handed out once, in order of position. A lost connection or a
        server that restarts only makes it wait: it goes on where it was, trying again less and
        less often. Memory stays bounded: it reads on as you take.

        Args:
            query: which events; None for all.
            after: the checkpoint or position after which to begin, such as the `checkpoint` that
                you kept; a moment, for what was recorded after it; or `"head"` for what comes
                from now on.
            due: hand out each event when its valid time comes, facts that are known late at once.
                What was recorded before the start and is valid after it comes too. The order is
                that of the log for what is due when it comes, and that of valid time for the rest.
                Keep the `checkpoint`: a position alone does not say how far the time had come.

        Returns:
            An iterator over the events that never ends by itself, and a context manager that
            stops it.

        Raises:
            EpochChanged: the checkpoint is of a history before the store was restored.
            InvalidInput: an argument is wrong, such as a position that this store never gave out.
            UnknownEventType, DecodingFailed, UpcastingFailed: an event does not fit the registered
                classes, or an upcaster fails on it.

        Example:
            ```python
            with store.subscribe(Query(channel="ordering"), after=checkpoint) as subscription:
                for event in subscription:
                    handle(event)
                    checkpoint = subscription.checkpoint
            ```
        """
        if not isinstance(self._engine, PoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        following = (DueFollowing if due else Following)(self._writing.codec, query, after=after)
        return Subscription(self._engine, self._wakeup.watch, following)

    def group(self, name: str) -> Group[BoundEventStore]:
        """Give the face of a consumer group: create it, work for it, look after it.

        Args:
            name: its name, 1 to 255 characters; the group need not be there yet.

        Returns:
            The group.
        """
        if not isinstance(self._engine, PoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        return Group(name, self._engine, self._wakeup.watch, self._writing.codec, self._bound)

    def groups(self) -> list[GroupInfo]:
        """Ask how all consumer groups stand, in order of name."""
        return self._engine.run(groups.infos(self._writing.codec))

    def wait_for(self, reader: str, position: int, timeout: float = 10.0) -> int:
        """Wait until a consumer group or a projection is done up to a position.

        So that you can read what you wrote.

        Args:
            reader: its name.
            position: such as that of an `AppendResult`.
            timeout: seconds to wait at most.

        Returns:
            The checkpoint; of the projection's newest version that serves.

        Raises:
            GroupNotFound: there is neither a group nor a projection of the name.
            ProjectionNotBuilt: the projection does not serve yet.
            WaitTimedOut: it did not come that far in time.

        Example:
            ```python
            result = store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            store.wait_for("orders", result.position, timeout=2)
            ```
        """
        return wait_for(
            self._pool,
            lambda: project.reader_checkpoint(reader, position),
            reader,
            position,
            timeout,
        )

    def project(
        self,
        projection: DocumentProjection[P] | type[DocumentProjection[P]],
        key: str | None = None,
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Live[P]:
        """Fold a projection from the events now, at whatever time: nothing of it is kept.

        For one document whose key is its stream only that stream is read, else all events that
        the projection takes.

        Args:
            projection: the projection.
            key: only this document.
            as_of: only from what was recorded by then, as for `read`.
            valid_at: only from what holds at this moment, in order of valid time, as for `read`.

        Returns:
            The documents: `.document` is that of the key, `.documents` are all by key.

        Raises:
            InvalidInput: the projection has no documents, or an argument is wrong.
            ProjectionFailed: the projection failed at an event.

        Example:
            ```python
            yesterday = datetime.now(UTC) - timedelta(days=1)
            basket = store.project(Baskets, "basket-17", as_of=yesterday).document
            ```
        """
        codec = self._writing.codec
        described = Described(projection, codec)
        live: Live[P] = Live(codec, described, key, as_of=as_of, valid_at=valid_at)
        fold_live(self._engine, live)
        return live

    def documents(
        self, projection: DocumentProjection[P] | type[DocumentProjection[P]]
    ) -> Documents[P]:
        """Give access to the documents of a projection that is kept, inline or async.

        Args:
            projection: the projection; its version says which documents.

        Raises:
            InvalidInput: the projection has no documents.
        """
        described = Described(projection, self._writing.codec)
        described.check_kind("documents")
        return Documents(self._engine, described)

    def projector(
        self,
        projection: Projection | type[Projection],
        *,
        partition: int = 0,
        lease: float = 10.0,
        name: str | None = None,
    ) -> Projector:
        """Get what keeps one partition of an async projection up to date.

        Args:
            projection: the projection; the first `take_over` makes it known to the store.
            partition: which of its partitions.
            lease: seconds without a sign of life after which others take over.
            name: who runs it, for people; by default host and process.

        Raises:
            InvalidInput: an argument is wrong.
        """
        if not isinstance(self._engine, PoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        run = project.Run(
            self._writing.codec,
            Described(projection, self._writing.codec),
            partition=partition,
            owner=name or worker_name(),
            lease=lease,
        )
        return Projector(self._engine, self._wakeup.watch, run)

    def catch_up(self, projection: Projection | type[Projection]) -> int:
        """Bring an async projection up to the head of this moment, in this process.

        Partitions that other processes hold are waited for.

        Returns:
            Its checkpoint, of the version that its code has, whether that serves yet or not.

        Raises:
            ProjectionFailed: the projection failed at an event.
            ProjectionChanged: it was begun in another way under its version.
            WaitTimedOut: others hold a partition and are not as far after ten seconds.
        """
        settled = self.head()
        described = Described(projection, self._writing.codec)
        for partition in range(described.partitions):
            with self.projector(described.projection, partition=partition) as projector:
                if projector.take_over():
                    while projector.position < settled:
                        projector.step()
        return wait_for(
            self._pool,
            lambda: project.version_checkpoint(described),
            described.name,
            settled,
            _CATCH_UP_SECONDS,
        )

    def verify(
        self, projection: DocumentProjection[Any] | type[DocumentProjection[Any]]
    ) -> Verification:
        """Fold a projection anew up to its checkpoint, and compare with the documents it keeps.

        All documents are in memory meanwhile. It sees one moment, and disturbs nobody. Documents
        of streams that were erased since differ, until the projection is built anew: what was
        erased is still in them.

        Args:
            projection: the projection, inline or async.

        Returns:
            What differs; `.holds` says whether nothing does.

        Raises:
            InvalidInput: the projection has no documents.
            ProjectionNotFound: it never ran.
            ProjectionNotBuilt: this version of it does not serve yet.
            ProjectionFailed: it failed at an event.
        """
        if not isinstance(self._engine, PoolEngine):
            raise InvalidInput(_HAS_NO_SNAPSHOT)
        codec = self._writing.codec
        return verify(self._engine, Verifying(codec, Described(projection, codec)))

    def projections(self, name: str | None = None) -> list[BuildInfo]:
        """Ask how projections stand: checkpoints, who keeps them up to date, what went wrong.

        Args:
            name: only this one.

        Returns:
            A row a build: several of a projection while another version is built or served.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return self._engine.run(project.builds(name))

    @property
    def _pool(self) -> PoolEngine:
        if not isinstance(self._engine, PoolEngine):
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        return self._engine

    def daemon(
        self,
        projections: Iterable[Projection | type[Projection]],
        *,
        lease: float = 10.0,
        concurrency: int = 8,
        name: str | None = None,
    ) -> Daemon:
        """Get what keeps projections up to date, sharing their partitions with other processes.

        Args:
            projections: async projections. All that this process has the code for: what it cannot
                run is dealt to others.
            lease: seconds without a sign of life after which others take over; those notice it
                a second later at most.
            concurrency: how many batches it works on at once. The store needs two connections
                more.
            name: who runs it, for people; by default host and process, and a random part.

        Raises:
            InvalidInput: an argument is wrong, or a projection is given twice.
        """
        if not isinstance(self._engine, PoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        codec = self._writing.codec
        duty = Duty(
            [Described(projection, codec) for projection in projections],
            owner=name or daemon_name(),
            lease=lease,
        )
        return Daemon(self._engine, self._wakeup.watch, codec, duty, concurrency)

    def rebuild(
        self,
        projection: Projection | type[Projection],
        *,
        report: Report = _report_nothing,
        concurrency: int = 4,
    ) -> None:
        """Build a projection anew from the log, beside the one that serves, and swap the two.

        Daemons that have its code take part. When it is interrupted, the next one goes on. It
        leads a version that does not serve yet to its end, too: an inline projection that is new to
        a store with events, or in a new version.

        Args:
            projection: the projection. One whose state is not in documents is built in a new
                version only.
            report: called again and again with how far it is.
            concurrency: how many partitions are built at once here. The store needs three
                connections more.

        Raises:
            InvalidInput: its state is not in documents, and the version serves.
            ProjectionStopped: its code fails at an event; what serves goes on.
            ProjectionChanged: it was begun in another way under its version.

        Example:
            ```python
            store.rebuild(Orders, report=lambda so_far: print(so_far.position, so_far.head))
            ```
        """
        if not isinstance(self._engine, PoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        codec = self._writing.codec
        described = Described(projection, codec)
        rebuild_projection(self._engine, self._wakeup.watch, codec, described, report, concurrency)

    def projection(self, name: str) -> ProjectionControl:
        """Give a projection to an operator: how it stands, what it leaves out, restart, drop.

        Args:
            name: its name.
        """
        return ProjectionControl(name, self._engine)

    def projection_statuses(self) -> list[ProjectionStatus]:
        """Ask how all projections stand: state, checkpoint, lag, speed; one for each build."""
        return self._engine.run(operating.statuses())

    def _bound(self, engine: BoundEngine) -> BoundEventStore:
        return BoundEventStore(engine, self._writing)

    def head(self) -> int:
        """Ask for the settled position: at and below it nothing can appear any more."""
        return self._engine.run(read.head())

    def position_at(self, moment: datetime) -> int:
        """Ask for the position that stands for a moment: everything up to it was recorded by then.

        It is the one before the first event that was recorded later. Where no such event is
        settled yet it is the head, and grows; once the head `has_passed` the moment, it never
        changes.

        Args:
            moment: a moment, with a time zone.

        Returns:
            The position, to read `as_of` or to begin `after`.

        Raises:
            InvalidInput: the moment has no time zone.
            IsolationTooStrict: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
        """
        return self._engine.run(spans.position_at(moment))

    def has_passed(self, moment: datetime) -> bool:
        """Ask whether the head has passed a moment: an event recorded later is settled.

        Then everything recorded up to the moment is settled too, and what is read `as_of` it is
        the same for ever. Before, transactions may still be under way that began earlier.

        Args:
            moment: a moment, with a time zone.

        Returns:
            Whether it has.

        Raises:
            InvalidInput: the moment has no time zone.
            IsolationTooStrict: in a REPEATABLE READ or SERIALIZABLE transaction of `bind`.
        """
        return self._engine.run(spans.has_passed(moment))

    def head_info(self) -> HeadInfo:
        """Ask how far the log is settled, what waits behind the head, and who holds it back.

        Returns:
            The head, how many committed events stand behind it, and the open transactions that
            appended: their process, application, age and last statement.
        """
        return self._engine.run(read.head_info())

    def epoch(self) -> UUID:
        """Ask for the store's epoch: a random id, another one after a restore."""
        return self._engine.run(read.epoch())

    def renew_epoch(self) -> UUID:
        """Begin a new epoch, once the store was restored to an earlier time.

        Readers that come with a checkpoint of before are told so (`EpochChanged`), instead of
        going on in a log that is not the one that they read. Only the owner of the store may.

        Returns:
            The new epoch.

        Raises:
            PermissionDenied: the role may not.
        """
        return self._engine.run(read.renew_epoch())

    def stream(self, name: str) -> StreamInfo | None:
        """Ask what the store knows of a stream.

        Returns:
            Its channel, version and times; None for a stream never written.
        """
        return self._engine.run(read.stream_info(name))

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> Iterator[StreamInfo]:
        """Ask what streams there are, in order of name.

        Args:
            channel: only those of a channel.
            prefix: only those whose name starts with it.

        Returns:
            An iterator over them; they are read in pages.
        """
        return _pages(self._engine, read.StreamsReading(channel=channel, prefix=prefix))

    def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        """Close a stream: it takes no more events, until it is reopened.

        Its events stay where they are, and are read as before. Closing a closed stream changes
        nothing.

        Args:
            stream: the stream.
            expected: what you believe its last version to be, as for `append`.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            WrongExpectedVersion: the stream is at another version.
            StreamNotFound: it was never written.

        Example:
            ```python
            last = store.append("order-17", OrderPaid(12), expected=4)
            store.close_stream("order-17", expected=last.version)
            ```
        """
        return self._engine.run(life.close_stream(stream, expected=expected, reason=reason))

    def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Open a closed stream again; it goes on at the version where it stands.

        Args:
            stream: the stream.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            StreamNotFound: it was never written.
        """
        return self._engine.run(life.change_stream(stream, "reopen", reason=reason))

    def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        """Move the events of a closed stream out of the way of those that are still written to.

        They keep their places, and every reader finds them there. Needs the role
        SCHEMA_maintainer. Archiving again moves what came since.

        Args:
            stream: the stream.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            StreamNotClosed: it is open.
            StreamNotFound: it was never written.
            PermissionDenied: the role may not.
        """
        return self._engine.run(life.change_stream(stream, "archive", reason=reason))

    def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        """Destroy the data and the metadata of a stream's events, for good.

        Their places, ids, types, tags and times stay; `event.data is ERASED` from then on, and
        consumer groups pass them over. The stream stays open or closed as it is. Needs the role
        SCHEMA_maintainer. Old copies go with the next VACUUM; backups and the write-ahead log
        keep theirs until they expire.

        Args:
            stream: the stream.
            reason: why, for the record (`stream_changes`).

        Returns:
            The stream as it is then.

        Raises:
            StreamNotFound: it was never written.
            PermissionDenied: the role may not.
            InvalidInput: no reason is given.
        """
        return self._engine.run(life.change_stream(stream, "erase", reason=reason))

    def stream_changes(self, stream: str) -> list[StreamChange]:
        """Ask who closed, reopened, archived or erased a stream, when and why, in order."""
        return self._engine.run(life.stream_changes(stream))

    def stats(self) -> StoreStats:
        """Ask how large the store is, per channel too."""
        return self._engine.run(read.stats())

    def types(self) -> list[TypeInfo]:
        """Say what types of events there are, in order of name.

        The whole log is counted through, in steps of 200,000 positions: a second or two for
        each million events.

        Returns:
            Them, with what is registered for each.
        """
        return self._engine.run(event_types.types(self._writing.codec))

    def check_types(self, *, samples: int = 100) -> list[TypeCheck]:
        """Check that the events of every type can be read with the classes and upcasters of today.

        Like `types` it goes through the whole log; of each type it reads the first event, the last
        and some at random.

        Args:
            samples: how many events of a type to read at random.

        Returns:
            What it found for each type, in order of name: no `failures` where all were read.

        Raises:
            InvalidInput: the store was opened without event classes, or `samples` is no number.

        Example:
            ```python
            assert not [check for check in store.check_types() if check.failures]
            ```
        """
        return self._engine.run(event_types.check_types(self._writing.codec, samples=samples))

    def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`; closing twice is allowed."""
        if self._wakeup is not None:
            self._wakeup.close()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class BoundEventStore(EventStore):
    """A store inside one transaction, from `transaction` or `bind`.

    Closing it leaves the connection to its owner.
    """

    _engine: BoundEngine

    @property
    def connection(self) -> Connection:
        """The connection, for SQL of your own in the same transaction."""
        return self._engine.connection


class StreamEvents(Iterator[RecordedEvent]):
    """The events of a reading of a stream, and the version that it has come to."""

    def __init__(
        self,
        engine: PoolEngine | BoundEngine,
        reading: read.StreamReading | valid.ValidStreamReading,
    ) -> None:
        self._reading = reading
        self._events = _pages(engine, reading)

    @property
    def version(self) -> int:
        """Once the events are taken, the highest version read: what an append may expect; else -1.

        It counts what upcasters leave nothing of, and so may be higher than that of the last event.
        """
        return self._reading.version

    def __iter__(self) -> Iterator[RecordedEvent]:
        return self._events

    def __next__(self) -> RecordedEvent:
        return next(self._events)


class Log(Iterator[RecordedEvent]):
    """The events of a reading of the log, and the position that it is complete up to."""

    def __init__(
        self, engine: PoolEngine | BoundEngine, reading: read.LogReading | valid.ValidLogReading
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._events = _pages(engine, reading)

    @property
    def head(self) -> int:
        """The position that the reading is complete up to: the `after` of the next one.

        The settled position when it began, or a lower one that stands for the recorded time asked
        for.
        """
        return self._engine.run(self._reading.start())

    def __next__(self) -> RecordedEvent:
        return next(self._events)


class _Reading(Protocol[T_co]):
    def next_page(self) -> Plan[Sequence[T_co]]: ...


def _pages(engine: PoolEngine | BoundEngine, reading: _Reading[T]) -> Iterator[T]:
    while page := engine.run(reading.next_page()):
        yield from page


# The same, awaiting ----------------------------------------------------------------------------


@documented_as(EventStore)
class AsyncEventStore:
    """A store of events, for `async` code: `EventStore` with `await`.

    Any number of tasks of one event loop may use one store at once.

    Example:
        ```python
        async with AsyncEventStore.connect(events=[OrderCreated, OrderCanceled]) as store:
            await store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
            async for event in store.read("order-17"):
                print(event.version, event.type, event.data)
        ```
    """

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        writing: append.Writing,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._engine = engine
        self._writing = writing
        self._wakeup = wakeup

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        schema: str = "indelible",
        events: EventClasses = (),
        unknown: Unknown = "raise",
        channel: str | None = None,
        inline: Iterable[Projection | type[Projection]] = (),
        migrate: bool | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
        pool_size: int = 10,
        timeout: float = 30.0,
    ) -> Connecting:
        async def connect() -> AsyncEventStore:
            opened = await asyncio.to_thread(
                opening.prepare,
                url,
                schema=schema,
                events=events,
                unknown=unknown,
                channel=channel,
                migrate=migrate,
                max_event_bytes=max_event_bytes,
                pool_size=pool_size,
                timeout=timeout,
            )
            wakeup = Wakeup(opened.settings)
            kept = AsyncInline(opened.writing.codec, inline)
            engine = AsyncPoolEngine(
                opened.settings,
                on_close=opened.release,
                on_commit=wakeup.doorbell.ring,
                on_append=kept if kept.described else None,
            )
            try:
                await engine.open()
                await engine.run(schema_.check(schema))
                await engine.run(project.register_inline(kept.described))
            except BaseException:
                await engine.close()
                raise
            return AsyncEventStore(engine, opened.writing, wakeup)

        return Connecting(connect)

    async def append(
        self,
        stream: str | None,
        events: Any,
        *,
        expected: int | ExpectedVersion | None = None,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
        channel: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AppendResult:
        return await self._engine.run(
            append.append(
                self._writing,
                stream,
                events,
                expected=expected,
                condition=condition,
                channel=channel,
                metadata=metadata,
            )
        )

    async def append_many(
        self,
        appends: Iterable[StreamAppend],
        *,
        condition: AppendCondition | Sequence[AppendCondition] | None = None,
    ) -> list[AppendResult]:
        return await self._engine.run(
            append.append_many(self._writing, appends, condition=condition)
        )

    async def import_events(
        self,
        events: AsyncImportable,
        *,
        source: str | None = None,
        keep_recorded_at: bool = False,
    ) -> ImportResult:
        if not isinstance(self._engine, AsyncPoolEngine):
            raise InvalidInput(_COMMITS_BY_ITSELF)
        if self._engine.has_inline:
            raise InvalidInput(_PASSES_BY_PROJECTIONS)
        importing = Importing(self._writing, source=source, keep_recorded_at=keep_recorded_at)
        await importer.import_events_async(self._engine, importing, events)
        return importing.result

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncBoundEventStore]:
        async with self._engine.transaction() as engine:
            yield AsyncBoundEventStore(engine, self._writing)

    def bind(self, connection: AsyncConnection) -> AsyncBoundEventStore:
        return AsyncBoundEventStore(self._engine.bind(connection), self._writing)

    def read(
        self,
        stream: str,
        *,
        from_version: int = 0,
        to_version: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
        must_exist: bool = False,
        as_of: AsOf | None = None,
        recorded_between: Between | None = None,
        valid_at: datetime | None = None,
        valid_between: Between | None = None,
    ) -> AsyncStreamEvents:
        return AsyncStreamEvents(
            self._engine,
            valid.stream_reading(
                self._writing.codec,
                stream,
                from_version=from_version,
                to_version=to_version,
                backwards=backwards,
                limit=limit,
                must_exist=must_exist,
                as_of=as_of,
                recorded_between=recorded_between,
                valid_at=valid_at,
                valid_between=valid_between,
            ),
        )

    def read_all(
        self,
        query: Query | None = None,
        *,
        after: int = 0,
        backwards: bool = False,
        limit: int | None = None,
        as_of: AsOf | None = None,
        recorded_between: Between | None = None,
        valid_at: datetime | None = None,
        valid_between: Between | None = None,
    ) -> AsyncLog:
        return AsyncLog(
            self._engine,
            valid.log_reading(
                self._writing.codec,
                query,
                after=after,
                backwards=backwards,
                limit=limit,
                as_of=as_of,
                recorded_between=recorded_between,
                valid_at=valid_at,
                valid_between=valid_between,
            ),
        )

    async def read_matching(self, query: Query) -> Matching:
        return await self._engine.run(read.matching(self._writing.codec, query))

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
        self,
        decide: Callable[..., Any],
        *models: DecisionModel[Any],
        attempts: int = 10,
    ) -> list[AppendResult]:
        left = Attempts(attempts)
        while True:
            try:
                return await self._engine.run(decisions.decide_with(self._writing, decide, models))
            except AppendConditionFailed as refusal:
                pause = left.pause_after(refusal)
            await self._engine.wait(pause)

    @overload
    async def load(
        self,
        stream: str,
        decider: Decider[Any, State, Any],
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Loaded[State]: ...

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
    ) -> Loaded[State] | Object:
        begun = loading.loading(
            self._writing.codec, stream, decider, as_of=as_of, valid_at=valid_at
        )
        loaded = await self._engine.run(loading.load(begun))
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
    ) -> Handled[State, Event]: ...

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
    ) -> Handled[Object, Any]: ...

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
    ) -> Handled[Any, Any]:
        begun = Handling(
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
        begun = handling.begin(self._writing, aggregate, stream)
        await self._engine.run(begun.load())
        yield begun.state
        await self._engine.run(
            handling.finish(self._writing, stream, begun.state, channel=channel, metadata=metadata)
        )
        await self._keep_snapshot(begun)

    async def _keep_snapshot(self, begun: Loading[Any]) -> None:
        if begun.has_snapshot_to_take:
            await self._engine.run_aside(begun.take_snapshot())

    def subscribe(
        self, query: Query | None = None, *, after: Start = 0, due: bool = False
    ) -> AsyncSubscription:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        following = (DueFollowing if due else Following)(self._writing.codec, query, after=after)
        return AsyncSubscription(self._engine, self._wakeup.watch, following)

    def group(self, name: str) -> AsyncGroup[AsyncBoundEventStore]:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        return AsyncGroup(name, self._engine, self._wakeup.watch, self._writing.codec, self._bound)

    async def groups(self) -> list[GroupInfo]:
        return await self._engine.run(groups.infos(self._writing.codec))

    async def wait_for(self, reader: str, position: int, timeout: float = 10.0) -> int:  # noqa: ASYNC109
        return await wait_for_async(
            self._pool,
            lambda: project.reader_checkpoint(reader, position),
            reader,
            position,
            timeout,
        )

    async def project(
        self,
        projection: DocumentProjection[P] | type[DocumentProjection[P]],
        key: str | None = None,
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Live[P]:
        codec = self._writing.codec
        described = Described(projection, codec)
        live: Live[P] = Live(codec, described, key, as_of=as_of, valid_at=valid_at)
        await fold_live_async(self._engine, live)
        return live

    def documents(
        self, projection: DocumentProjection[P] | type[DocumentProjection[P]]
    ) -> AsyncDocuments[P]:
        described = Described(projection, self._writing.codec)
        described.check_kind("documents")
        return AsyncDocuments(self._engine, described)

    def projector(
        self,
        projection: Projection | type[Projection],
        *,
        partition: int = 0,
        lease: float = 10.0,
        name: str | None = None,
    ) -> AsyncProjector:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        run = project.Run(
            self._writing.codec,
            Described(projection, self._writing.codec),
            partition=partition,
            owner=name or worker_name(),
            lease=lease,
        )
        return AsyncProjector(self._engine, self._wakeup.watch, run)

    async def catch_up(self, projection: Projection | type[Projection]) -> int:
        settled = await self.head()
        described = Described(projection, self._writing.codec)
        for partition in range(described.partitions):
            async with self.projector(described.projection, partition=partition) as projector:
                if await projector.take_over():
                    while projector.position < settled:
                        await projector.step()
        return await wait_for_async(
            self._pool,
            lambda: project.version_checkpoint(described),
            described.name,
            settled,
            _CATCH_UP_SECONDS,
        )

    async def verify(
        self, projection: DocumentProjection[Any] | type[DocumentProjection[Any]]
    ) -> Verification:
        if not isinstance(self._engine, AsyncPoolEngine):
            raise InvalidInput(_HAS_NO_SNAPSHOT)
        codec = self._writing.codec
        return await verify_async(self._engine, Verifying(codec, Described(projection, codec)))

    async def projections(self, name: str | None = None) -> list[BuildInfo]:
        return await self._engine.run(project.builds(name))

    @property
    def _pool(self) -> AsyncPoolEngine:
        if not isinstance(self._engine, AsyncPoolEngine):
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        return self._engine

    def daemon(
        self,
        projections: Iterable[Projection | type[Projection]],
        *,
        lease: float = 10.0,
        concurrency: int = 8,
        name: str | None = None,
    ) -> AsyncDaemon:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        codec = self._writing.codec
        duty = Duty(
            [Described(projection, codec) for projection in projections],
            owner=name or daemon_name(),
            lease=lease,
        )
        return AsyncDaemon(self._engine, self._wakeup.watch, codec, duty, concurrency)

    async def rebuild(
        self,
        projection: Projection | type[Projection],
        *,
        report: Report = _report_nothing,
        concurrency: int = 4,
    ) -> None:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(_NOT_IN_A_TRANSACTION)
        codec = self._writing.codec
        described = Described(projection, codec)
        await rebuild_projection_async(
            self._engine, self._wakeup.watch, codec, described, report, concurrency
        )

    def projection(self, name: str) -> AsyncProjectionControl:
        return AsyncProjectionControl(name, self._engine)

    async def projection_statuses(self) -> list[ProjectionStatus]:
        return await self._engine.run(operating.statuses())

    def _bound(self, engine: AsyncBoundEngine) -> AsyncBoundEventStore:
        return AsyncBoundEventStore(engine, self._writing)

    async def head(self) -> int:
        return await self._engine.run(read.head())

    async def position_at(self, moment: datetime) -> int:
        return await self._engine.run(spans.position_at(moment))

    async def has_passed(self, moment: datetime) -> bool:
        return await self._engine.run(spans.has_passed(moment))

    async def head_info(self) -> HeadInfo:
        return await self._engine.run(read.head_info())

    async def epoch(self) -> UUID:
        return await self._engine.run(read.epoch())

    async def renew_epoch(self) -> UUID:
        return await self._engine.run(read.renew_epoch())

    async def stream(self, name: str) -> StreamInfo | None:
        return await self._engine.run(read.stream_info(name))

    def streams(
        self, *, channel: str | None = None, prefix: str | None = None
    ) -> AsyncIterator[StreamInfo]:
        return _async_pages(self._engine, read.StreamsReading(channel=channel, prefix=prefix))

    async def close_stream(
        self, stream: str, *, expected: int | ExpectedVersion, reason: str | None = None
    ) -> StreamInfo:
        return await self._engine.run(life.close_stream(stream, expected=expected, reason=reason))

    async def reopen_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        return await self._engine.run(life.change_stream(stream, "reopen", reason=reason))

    async def archive_stream(self, stream: str, *, reason: str | None = None) -> StreamInfo:
        return await self._engine.run(life.change_stream(stream, "archive", reason=reason))

    async def erase_stream(self, stream: str, *, reason: str) -> StreamInfo:
        return await self._engine.run(life.change_stream(stream, "erase", reason=reason))

    async def stream_changes(self, stream: str) -> list[StreamChange]:
        return await self._engine.run(life.stream_changes(stream))

    async def stats(self) -> StoreStats:
        return await self._engine.run(read.stats())

    async def types(self) -> list[TypeInfo]:
        return await self._engine.run(event_types.types(self._writing.codec))

    async def check_types(self, *, samples: int = 100) -> list[TypeCheck]:
        return await self._engine.run(event_types.check_types(self._writing.codec, samples=samples))

    async def close(self) -> None:
        if self._wakeup is not None:
            await asyncio.to_thread(self._wakeup.close)
        await self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


@documented_as(BoundEventStore)
class AsyncBoundEventStore(AsyncEventStore):
    """A store inside one transaction, from `transaction` or `bind`; see `BoundEventStore`."""

    _engine: AsyncBoundEngine

    @property
    def connection(self) -> AsyncConnection:
        """The connection, for SQL of your own in the same transaction."""
        return self._engine.connection


class Connecting:
    """A store about to be opened: `await` it, or enter it with `async with`."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._store: AsyncEventStore | None = None

    def __await__(self) -> Generator[Any, None, AsyncEventStore]:
        return self._connect().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> AsyncEventStore:
        self._store = await self
        return self._store

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._store is not None:
            await self._store.close()


@documented_as(StreamEvents)
class AsyncStreamEvents(AsyncIterator[RecordedEvent]):
    """The events of a reading of a stream, and the version that it has come to."""

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        reading: read.StreamReading | valid.ValidStreamReading,
    ) -> None:
        self._reading = reading
        self._events = _async_pages(engine, reading)

    @property
    def version(self) -> int:
        return self._reading.version

    def __aiter__(self) -> AsyncIterator[RecordedEvent]:
        return self._events

    async def __anext__(self) -> RecordedEvent:
        return await anext(self._events)


class AsyncLog(AsyncIterator[RecordedEvent]):
    """The events of a reading of the log, and the position that it is complete up to.

    `await` it to begin the reading before the first event is taken.
    """

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        reading: read.LogReading | valid.ValidLogReading,
    ) -> None:
        self._engine = engine
        self._reading = reading
        self._events = _async_pages(engine, reading)

    @property
    def head(self) -> int:
        """The position that the reading is complete up to: the `after` of the next one.

        The settled position when it began, or a lower one that stands for the recorded time asked
        for.
        """
        if self._reading.known_head is None:
            raise InvalidInput(
                "the reading has not begun: take its events first, or await the result of read_all"
            )
        return self._reading.known_head

    def __await__(self) -> Generator[Any, None, AsyncLog]:
        yield from self._engine.run(self._reading.start()).__await__()
        return self

    async def __anext__(self) -> RecordedEvent:
        return await anext(self._events)


async def _async_pages(
    engine: AsyncPoolEngine | AsyncBoundEngine, reading: _Reading[T]
) -> AsyncIterator[T]:
    while page := await engine.run(reading.next_page()):
        for item in page:
            yield item
