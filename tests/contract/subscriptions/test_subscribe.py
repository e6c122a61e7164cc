"""Subscriptions return stored events, then new ones, once and in order, until they are stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from base64 import b64encode
from contextlib import ExitStack, nullcontext, suppress
from copy import copy
from datetime import UTC, datetime
from itertools import islice
from random import randbytes
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AsyncEventStore,
    Checkpoint,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
)
from indelible.core.concurrency_async import AsyncEvent
from indelible.core.operation import Operation
from indelible.errors import DatabaseUnreachable, StoreClosed
from indelible.postgres import control_connection
from indelible.postgres.connection import PooledConnection
from indelible.serialization.codec import Codec
from indelible.streams.head import head_state
from indelible.streams.read_log import LogReading
from indelible.streams.read_options import LogReadOptions
from indelible.subscriptions import head_watcher as wakeup_module
from indelible.subscriptions.notifier import CommitNotifier, notification_channel
from indelible.subscriptions.tail import FollowingReading, look
from tests.conftest import Connect
from tests.support.waiting import wait_until


def event(number: int = 0, type_: str = "Happened") -> NewEvent:
    return NewEvent(type_, {"number": number})


def test_history_comes_first_and_then_what_is_appended(store: EventStore) -> None:
    store.append("a-1", [event(0), event(1)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        seen = [next(subscription).data["number"], next(subscription).data["number"]]
        store.append("b-1", event(2), expected=NO_STREAM)
        store.append("a-1", event(3), expected=1)
        seen += [e.data["number"] for e in islice(subscription, 2)]

    assert seen == [0, 1, 2, 3]


def test_a_long_history_comes_whole(store: EventStore) -> None:
    """A history longer than one page is not cut."""
    for number in range(7):
        store.append(f"a-{number}", [event(n) for n in range(300)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        positions = [e.position for e in islice(subscription, 2100)]

    assert positions == sorted(set(positions))
    assert subscription.position == positions[-1]


def test_it_begins_after_a_position(store: EventStore) -> None:
    first = store.append("a-1", event(0), expected=NO_STREAM)
    store.append("a-1", event(1), expected=0)
    with store.subscribe(after=first.position) as subscription:
        assert next(subscription).data["number"] == 1


def test_from_the_head_only_what_comes_is_handed_out(store: EventStore) -> None:
    store.append("a-1", event(0), expected=NO_STREAM)
    with store.subscribe(after="head") as subscription:
        store.append("a-1", event(1), expected=0)
        assert next(subscription).data["number"] == 1


def test_only_what_matches_the_query_is_handed_out(store: EventStore) -> None:
    store.append("a-1", [event(0, "Other"), event(1)], expected=NO_STREAM)
    with store.subscribe(Query(types="Happened") | Query(channel="b")) as subscription:
        assert next(subscription).data["number"] == 1
        store.append("a-1", event(2, "Other"), expected=1)
        store.append("b-1", event(3, "Other"), expected=NO_STREAM)
        assert next(subscription).data["number"] == 3


def test_a_filter_that_matches_nothing_moves_the_checkpoint_on_in_bounded_steps(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.streams.read_log._FIRST_WINDOW", 50)
    monkeypatch.setattr("indelible.streams.read_log._LARGEST_WINDOW", 50)
    last = store.append("a-1", [event(n) for n in range(200)], expected=NO_STREAM)
    with store.subscribe(Query(types="Never")) as subscription:
        batches = list(islice(subscription.batches(), 4))

    assert [(len(b.events), b.position) for b in batches] == [
        (0, last.position - 150),
        (0, last.position - 100),
        (0, last.position - 50),
        (0, last.position),
    ]
    assert [b.is_caught_up for b in batches] == [False, False, False, True]


def test_a_checkpoint_kept_after_each_event_resumes_with_the_next(store: EventStore) -> None:
    store.append("a-1", [event(n) for n in range(5)], expected=NO_STREAM)
    checkpoint, seen = 0, []
    for _ in range(5):
        with store.subscribe(after=checkpoint) as subscription:
            seen.append(next(subscription).data["number"])
            checkpoint = subscription.position

    assert seen == [0, 1, 2, 3, 4]


def test_it_reads_on_only_as_events_are_taken(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.streams.paging._FIRST_PAGE", 10)
    monkeypatch.setattr("indelible.streams.paging._LARGEST_PAGE", 10)
    store.append("a-1", [event(n) for n in range(100)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        next(subscription)
        events = getattr(subscription, "_events")  # noqa: B009
        assert len(events) == 9


def test_it_says_when_it_has_caught_up(store: EventStore) -> None:
    store.append("a-1", [event(0), event(1)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        next(subscription)
        assert not subscription.is_caught_up
        next(subscription)
        assert subscription.is_caught_up


def test_another_thread_waits_until_it_has_caught_up(sync_store: EventStore) -> None:
    sync_store.append("a-1", event(), expected=NO_STREAM)
    with sync_store.subscribe() as subscription:
        assert not subscription.wait_until_caught_up(timeout=0)
        reader = threading.Thread(target=lambda: list(subscription))
        reader.start()
        assert subscription.wait_until_caught_up(timeout=20)
        subscription.stop()
        reader.join(20)


def test_another_thread_stops_it_while_it_waits(store: EventStore) -> None:
    with store.subscribe() as subscription:
        threading.Timer(0.1, subscription.stop).start()
        assert list(subscription) == []
        assert list(subscription) == []


def test_a_stopped_subscription_hands_out_nothing_more(store: EventStore) -> None:
    store.append("a-1", [event(0), event(1)], expected=NO_STREAM)
    subscription = store.subscribe()
    next(subscription)
    subscription.stop()
    subscription.stop()
    assert list(subscription) == []


@pytest.mark.parametrize("deliver_when_valid", [False, True])
def test_events_that_are_read_while_it_is_stopped_are_not_passed(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, *, deliver_when_valid: bool
) -> None:
    store.append("a-1", [event(0), event(1)], expected=NO_STREAM)
    subscription = store.subscribe(deliver_when_valid=deliver_when_valid)
    read_window = LogReading._read_window

    def stopped_meanwhile(reading: LogReading) -> Operation[list[RecordedEvent]]:
        events = yield from read_window(reading)
        subscription.stop()
        return events

    monkeypatch.setattr(LogReading, "_read_window", stopped_meanwhile)
    assert list(subscription) == []
    assert subscription.position == 0
    assert subscription.checkpoint.position == 0
    monkeypatch.undo()
    later = store.subscribe(after=subscription.checkpoint, deliver_when_valid=deliver_when_valid)
    assert [found.data["number"] for found in islice(later, 2)] == [0, 1]


def test_a_position_that_was_never_given_out_is_refused(store: EventStore) -> None:
    """A checkpoint from before the store was restored to an earlier time is ahead of it."""
    store.append("a-1", event(), expected=NO_STREAM)
    with pytest.raises(InvalidInput, match="restored to an earlier time"):
        next(store.subscribe(after=1_000))


@pytest.mark.parametrize("after", [-1, "start", None, 1.5, True])
def test_a_start_that_is_none_is_refused(store: EventStore, after: object) -> None:
    with pytest.raises(InvalidInput, match="after must be"):
        store.subscribe(after=after)  # type: ignore[arg-type]


def test_what_commits_late_below_others_is_handed_out_in_its_place(
    store: EventStore, sync_store: EventStore, url: str
) -> None:
    """A slow commit holds a lower position while the subscription is live."""
    with store.subscribe() as subscription, psycopg.connect(url) as slow:
        sync_store.bind(slow).append("slow-1", event(0), expected=NO_STREAM)
        store.append("fast-1", event(1), expected=NO_STREAM)
        threading.Timer(0.1, slow.commit).start()
        assert [e.data["number"] for e in islice(subscription, 2)] == [0, 1]


def test_it_goes_on_after_every_connection_was_ended(connect: Connect, url: str) -> None:
    store = connect()
    admin = psycopg.connect(url, autocommit=True)
    with admin, store.subscribe() as subscription:
        seen = []
        for number in range(5):
            store.append("a-1", event(number), expected=ANY)
            seen.append(next(subscription).data["number"])
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'indelible'"
            )
    assert seen == [0, 1, 2, 3, 4]


def test_it_polls_if_no_notification_arrives(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pooler swallows LISTEN, and nobody rings: the reader goes on by polling."""
    monkeypatch.setattr(wakeup_module, "_LISTEN_TEST", 0)
    monkeypatch.setattr(CommitNotifier, "notify", lambda notifier: None)
    with store.subscribe() as subscription:
        for number in range(3):
            store.append("a-1", event(number), expected=ANY)
            assert next(subscription).data["number"] == number
    assert [r.message for r in caplog.records if "LISTEN does not work" in r.message] != []


def test_many_subscriptions_share_one_listener(sync_store: EventStore, url: str) -> None:
    subscriptions = [sync_store.subscribe() for _ in range(8)]
    seen: list[int] = []
    readers = [
        threading.Thread(target=lambda s=s: seen.extend(e.position for e in s))  # type: ignore[misc]
        for s in subscriptions
    ]
    for reader in readers:
        reader.start()
    for subscription in subscriptions:
        assert subscription.wait_until_caught_up(20)
    sync_store.append("a-1", event(), expected=NO_STREAM)
    wait_until(lambda: len(seen) == 8)
    assert [t.name for t in threading.enumerate()].count("indelible-control") == 1
    for subscription in subscriptions:
        subscription.stop()
    for reader in readers:
        reader.join(20)


def test_the_watch_ends_when_nobody_needs_it(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_connection, "_LINGER", 0.05)
    monkeypatch.setattr(wakeup_module, "_LINGER", 0.05)
    for _ in range(2):
        subscription = sync_store.subscribe()
        threading.Timer(0.05, subscription.stop).start()
        assert list(subscription) == []
        wait_until(lambda: "indelible-control" not in [t.name for t in threading.enumerate()])


def test_closing_the_store_ends_a_waiting_subscription(sync_store: EventStore) -> None:
    threading.Timer(0.1, sync_store.close).start()
    with pytest.raises(StoreClosed):
        next(sync_store.subscribe())


def test_who_holds_the_head_is_named(store: EventStore, sync_store: EventStore, url: str) -> None:
    with psycopg.connect(url, application_name="slow import") as slow:
        low = sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        store.append("fast-1", event(), expected=NO_STREAM)
        found = store.head_info()

        assert (found.head, found.waiting) == (low.position - 1, 1)
        assert [(h.pid, h.application, h.state) for h in found.holders] == [
            (slow.info.backend_pid, "slow import", "idle in transaction")
        ]
        assert "slow import" in str(found.holders[0])
        assert "last statement: SELECT" in str(found.holders[0])
        slow.rollback()
    assert store.head_info().holders == ()


def test_a_head_held_for_long_is_warned_of(
    sync_store: EventStore,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(wakeup_module, "_HELD_TOO_LONG", 0.05)
    with psycopg.connect(url, application_name="slow import") as slow:
        sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        sync_store.append("fast-1", event(), expected=NO_STREAM)
        with sync_store.subscribe() as subscription:
            reader = threading.Thread(target=lambda: list(subscription))
            reader.start()
            wait_until(lambda: "slow import" in caplog.text)
            subscription.stop()
            reader.join(20)
    assert "events wait behind it (1): process" in caplog.text


def test_a_notification_is_sent_only_if_a_session_listens(
    store: EventStore, url: str, schema: str
) -> None:
    with psycopg.connect(url, autocommit=True) as ear:
        ear.execute(
            psycopg.sql.SQL("LISTEN {}").format(
                psycopg.sql.Identifier(notification_channel(schema))
            )
        )

        def heard(seconds: float) -> bool:
            store.append("a-1", event(), expected=ANY)
            return any(ear.notifies(timeout=seconds, stop_after=1))

        assert not heard(0.5)
        with psycopg.connect(url, autocommit=True) as watch:
            watch.execute(
                "SELECT pg_advisory_lock_shared(-1, hashtext(%s))", [notification_channel(schema)]
            )
            wait_until(lambda: heard(0.5))
            assert heard(5)


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_notification_wakes_a_reader_that_polls_seldom(
    store: EventStore,
    sync_store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    in_transaction: bool,
) -> None:
    for name in ("_SHORTEST_POLL", "_LONGEST_POLL", "_LONGEST_POLL_ALONE", "_POLL_AFTER_MOVE"):
        monkeypatch.setattr(wakeup_module, name, 60)

    def append() -> None:
        with store.transaction() if in_transaction else nullcontext(store) as appender:
            appender.append("a-1", event(7), expected=NO_STREAM)

    with sync_store.subscribe() as subscription:
        begun_at = time.monotonic()
        threading.Timer(0.5, append).start()
        assert next(subscription).data["number"] == 7
    assert time.monotonic() - begun_at < 50


def test_closing_the_store_does_not_wait_for_the_next_look(
    url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup_module, "_SHORTEST_POLL", 600)
    with EventStore.connect(url, schema=schema) as store:
        wakeup = store._wakeup
        assert wakeup is not None
        store.append("a-1", event(), expected=NO_STREAM)

        def read() -> None:
            with suppress(StoreClosed):
                list(store.subscribe())

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: wakeup.watch.state)
        thread = wakeup._control._thread
    assert thread is not None
    assert not thread.is_alive()
    reader.join(10)
    assert not reader.is_alive()


# Checkpoints -------------------------------------------------------------------------------------


def test_a_checkpoint_is_kept_as_text_and_resumes_with_the_next_event(store: EventStore) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        next(subscription)
        kept = str(subscription.checkpoint)
    with store.subscribe(after=Checkpoint.parse(kept)) as subscription:
        assert next(subscription).data["number"] == 1
    assert Checkpoint.parse(kept) == Checkpoint(1, store.epoch())


@pytest.mark.parametrize("text", ["", "17", "17@x", "x@00000000-0000-0000-0000-000000000000"])
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="such as 17@"):
        Checkpoint.parse(text)


def test_who_waits_until_it_has_caught_up_is_told_that_it_was_stopped(store: EventStore) -> None:
    subscription = store.subscribe()
    told: list[bool] = []
    subscription.stop()
    waiting = threading.Thread(
        target=lambda: told.append(subscription.wait_until_caught_up()), daemon=True
    )
    waiting.start()
    waiting.join(10)
    assert told == [False]


def test_stopping_does_not_wait_for_a_database_that_is_away(
    url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while it finds out that the database is away, before it waits."""
    monkeypatch.setattr("indelible.core.retry.Backoff.delay", lambda backoff, failures: 60.0)

    async def stop_and_fail() -> None:
        async with await AsyncEventStore.connect(url, schema=schema) as store:
            await store.append("a-1", event(), expected=ANY)
            subscription = await store.subscribe()

            class Away:
                async def run(self, plan: object) -> None:
                    subscription.stop()
                    await asyncio.sleep(0)
                    raise DatabaseUnreachable("away")

            subscription._engine = Away()  # type: ignore[assignment]
            async with asyncio.timeout(10):
                assert [found async for found in subscription] == []

    asyncio.run(stop_and_fail())


def test_a_subscription_that_is_forgotten_at_a_bad_moment_blocks_nobody(
    sync_store: EventStore,
) -> None:
    """The garbage collector may end it in the middle of anything."""
    watch = sync_store._wakeup.watch  # type: ignore[union-attr]
    subscription = sync_store.subscribe()
    woken = threading.Event()

    def forget() -> None:
        with watch._control.guard:
            subscription.stop()
        woken.set()

    threading.Thread(target=forget, daemon=True).start()
    assert woken.wait(10)


def test_a_loop_that_was_closed_ends_no_watch() -> None:
    async def forgotten() -> AsyncEvent:
        event = AsyncEvent()
        assert not await event.wait(0.001)
        return event

    event = asyncio.run(forgotten())
    event.set()
    assert event.is_set()


# The events that a look at the head brings along --------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[LogReading]:
    """The reads of subscriptions."""
    reads: list[LogReading] = []
    read = LogReading.next_window

    def note(reading: LogReading) -> Operation[list[RecordedEvent]]:
        if isinstance(reading, FollowingReading):
            reads.append(reading)
        return (yield from read(reading))

    monkeypatch.setattr(LogReading, "next_window", note)
    return reads


_FRAGILE = Query(types="Happened", tags="of:interest", stream_prefix="a-")


@pytest.mark.parametrize("query", [None, _FRAGILE, Query(channel="b") | _FRAGILE])
def test_new_events_come_with_the_look_at_the_head(
    store: EventStore, reads: list[LogReading], query: Query | None
) -> None:
    def new() -> list[NewEvent]:
        tags, due = ["of:interest"], datetime(1999, 1, 1, tzinfo=UTC)
        return [
            NewEvent("Happened", {"price": 2.5}, tags=tags, metadata={"by": "me"}),
            NewEvent("Happened", {"text": "\u00fc\u2028"}),
            NewEvent("Other", {}, tags=tags, valid_at=due),
            NewEvent("Happened", None, tags=[*tags, "of:more"]),
        ]

    with store.subscribe(query) as subscription:
        store.append("a-1", new(), expected=ANY)  # before it has seen any head
        seen = [next(subscription)]
        while len(seen) < len(list(store.read_all(query))):
            seen.append(next(subscription))
        count = len(reads)
        for number in range(4):
            with store.transaction() as transaction:
                for stream in ("a-1", "b-1", "a-2"):
                    transaction.append(stream, new()[number:], expected=ANY)
                transaction.append("a-9", new()[0], expected=ANY)
            while seen[-1].position < store.head():
                seen.append(next(subscription))
        assert seen == list(store.read_all(query))
        assert len(reads) == count
        assert subscription.checkpoint.position == seen[-1].position


def test_many_or_large_new_events_are_read_in_pages(
    store: EventStore, reads: list[LogReading]
) -> None:
    with store.subscribe() as subscription:
        store.append("a-1", event(), expected=ANY)
        next(subscription)
        large = NewEvent("Large", b64encode(randbytes(2 * 10**5)).decode())
        for new in ([event(number) for number in range(150)], [large]):
            count = len(reads)
            store.append("a-1", new, expected=ANY)
            seen = [next(subscription).data for _ in new]
            assert seen == [each.data for each in new]
            assert len(reads) > count


def test_a_look_brings_no_events_of_another_log(sync_store: EventStore) -> None:
    first = sync_store.append("a-1", event(0), expected=ANY)
    known = sync_store._engine.run(head_state())
    last = sync_store.append("a-1", event(1), expected=ANY)
    head, tail = sync_store._engine.run(look(known))
    assert tail is not None
    assert (head.position, [row[0] for row in tail.rows]) == (last.position, [last.position])
    for other in (known._replace(event_id=uuid4()), known._replace(epoch=uuid4())):
        assert sync_store._engine.run(look(other)) == (head, None)
    assert first.position == known.position


def test_a_tail_of_another_log_is_not_taken(
    sync_store: EventStore, reads: list[LogReading]
) -> None:
    sync_store.append("a-1", event(0), expected=ANY)
    known = sync_store._engine.run(head_state())
    reading = FollowingReading(Codec(), None, LogReadOptions(), follows=True)
    sync_store._engine.run(reading.start())
    sync_store._engine.run(reading.next_window())
    sync_store.append("a-1", event(1), expected=ANY)
    head, tail = sync_store._engine.run(look(known))
    assert tail is not None
    for after in (known._replace(event_id=uuid4()), known._replace(epoch=uuid4())):
        count = len(reads)
        other = copy(reading)
        other.extend(head, tail._replace(after=after))
        assert [e.data["number"] for e in sync_store._engine.run(other.next_window())] == [1]
        assert len(reads) == count + 1


def test_a_tail_that_begins_before_what_was_read_is_not_taken(
    sync_store: EventStore, reads: list[LogReading]
) -> None:
    """The last event that it has read matches nothing."""
    sync_store.append("a-1", event(0), expected=ANY)
    known = sync_store._engine.run(head_state())
    sync_store.append("b-1", event(1), expected=ANY)
    query = Query(channel="a")
    reading = FollowingReading(Codec(), query, LogReadOptions(), follows=True)
    sync_store._engine.run(reading.start())
    assert len(sync_store._engine.run(reading.next_window())) == 1
    sync_store.append("a-1", event(2), expected=ANY)
    head, tail = sync_store._engine.run(look(known))
    reading.extend(head, tail)
    count = len(reads)
    assert [e.data["number"] for e in sync_store._engine.run(reading.next_window())] == [2]
    assert len(reads) == count + 1


def test_a_hundred_subscriptions_at_rest_share_one_connection_and_a_few_statements(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges: list[int] = []
    wait = PooledConnection.wait

    def count(connection: PooledConnection, *args: Any, **options: Any) -> Any:
        exchanges.append(id(connection))
        return wait(connection, *args, **options)

    with ExitStack() as stack:
        subscriptions = [stack.enter_context(sync_store.subscribe()) for _ in range(100)]
        readers = [threading.Thread(target=list, args=(each,)) for each in subscriptions]
        for reader in readers:
            reader.start()
        assert all(each.wait_until_caught_up(20) for each in subscriptions)
        wakeup = sync_store._wakeup
        assert wakeup is not None
        wait_until(lambda: wakeup.watch._pause == wakeup_module._LONGEST_POLL)
        monkeypatch.setattr(PooledConnection, "wait", count)
        time.sleep(3)
        assert 0 < len(exchanges) < 5 * 3
        assert len(set(exchanges)) == 1
        for each in subscriptions:
            each.stop()
        for reader in readers:
            reader.join(20)
