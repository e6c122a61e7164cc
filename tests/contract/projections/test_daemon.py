"""The daemon keeps projections up to date, shares the work, and survives failing code."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from indelible import (
    ANY,
    DocumentProjection,
    EventStore,
    ExternalProjection,
    InvalidInput,
    NewEvent,
    RecordedEvent,
    TableProjection,
    handles,
)
from indelible.errors import ProjectionNotFound
from indelible.projections.definition import partition_of
from tests.conftest import Connect
from tests.support.daemons import Running
from tests.support.interleavings import Proxy, stopped_at
from tests.support.waiting import wait_until

Run = Callable[..., Running]


def happened(number: int) -> NewEvent:
    return NewEvent("Happened", {"number": number})


class Sums(DocumentProjection[dict]):
    name = "sums"
    partitions = 4

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"sum": (document or {"sum": 0})["sum"] + event.data["number"]}


class Fragile(Sums):
    """Fails at some numbers until it is mended."""

    name = "fragile"
    max_attempts = 2
    retry_after = 0.01
    partitions = 1

    def __init__(self, *bad: int) -> None:
        self.bad = set(bad)

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        if event.data["number"] in self.bad:
            raise ValueError(f"no {event.data['number']}\0")
        return super().happened(document, event)


class Forgiving(Fragile):
    name = "forgiving"
    on_error = "park"


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, url: str, schema: str) -> Iterator[Run]:
    """Runs daemons of one variant, and stops them after the test."""
    with ExitStack() as stack:

        def begin(*projections: Any, **options: Any) -> Running:
            running = Running(request.param, url, schema, projections, **{"lease": 0.6, **options})
            stack.callback(running.stop)
            return running

        yield begin


def owners(store: EventStore, name: str = "sums") -> list[str | None]:
    try:
        (build,) = store.projections(name)
    except ProjectionNotFound:
        return []
    return [part.owner for part in build.partitions]


def wait_for(store: EventStore, name: str, position: int) -> None:
    """Wait until a projection, which a daemon may not have begun yet, is done up to a position."""
    wait_until(lambda: owners(store, name))
    store.wait_for(name, position)


def shares(store: EventStore, *names: str) -> dict[str, int]:
    found: list[str | None] = []
    for name in names or ("sums",):
        found += owners(store, name)
    return {owner: found.count(owner) for owner in found if owner is not None}


def test_daemons_share_the_partitions_evenly_as_they_come_and_go(
    run: Run, sync_store: EventStore
) -> None:
    first = run(Sums, name="first")
    wait_until(lambda: shares(sync_store) == {"first": 4})
    second = run(Sums, name="second")
    wait_until(lambda: shares(sync_store) == {"first": 2, "second": 2})
    run(Sums, name="third")
    wait_until(lambda: sorted(shares(sync_store).values()) == [1, 1, 2])
    position = sync_store.append("a", [happened(1), happened(2)], expected=ANY).position
    wait_for(sync_store, "sums", position)
    assert sync_store.documents(Sums).read("a") == {"sum": 3}
    first.stop()
    second.stop()
    wait_until(lambda: shares(sync_store) == {"third": 4})


def test_a_daemon_that_stops_gives_everything_back_at_once(
    run: Run, sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    running = run(Sums, lease=60)
    wait_until(lambda: None not in (owners(sync_store) or [None]))
    running.stop()
    assert owners(sync_store) == [None] * 4
    assert connection.execute(f"SELECT FROM {schema}.projection_workers").fetchall() == []


def test_an_event_at_which_a_projection_fails_is_left_out_and_noted(
    run: Run, sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    results = [
        sync_store.append("a", happened(number), expected=ANY) for number in (1, 13, 2, 14, 4)
    ]
    run(Forgiving(13, 14))
    wait_for(sync_store, "forgiving", results[-1].position)
    assert sync_store.documents(Forgiving).read("a") == {"sum": 7}
    projection = sync_store.projection("forgiving")
    parked = projection.parked()
    assert [event.position for event in parked] == [results[1].position, results[3].position]
    assert parked[0].error.startswith("projection 'forgiving' failed at position")
    (status,) = projection.status()
    assert (status.parked, status.stopped, status.errors) == (2, 0, 0)
    assert projection.discard(parked[0].position) == 1
    assert projection.discard() == 1
    assert projection.parked() == []
    assert projection.status()[0].parked == 0
    # The parked event is still recorded as the reason for the gap.
    assert len(connection.execute(f"SELECT FROM {schema}.projection_parked").fetchall()) == 2


def test_a_projection_that_fails_stops_and_others_go_on_until_it_is_restarted(
    run: Run, sync_store: EventStore
) -> None:
    class FragileInPart(Fragile):
        name = "fragile"
        partitions = 4

    for stream in "bcdef":
        sync_store.append(stream, happened(1), expected=ANY)
    position = sync_store.append("a", [happened(1), happened(13)], expected=ANY).position
    fragile = FragileInPart(13)
    run(fragile, Sums)
    wait_for(sync_store, "sums", position)
    projection = sync_store.projection("fragile")
    wait_until(lambda: [status.stopped for status in projection.status()] == [1])
    (status,) = projection.status()
    (part,) = [part for part in status.build.partitions if part.is_stopped]
    assert part.error is not None
    assert (part.error_position, part.position) == (position, position - 1)
    assert status.lag_events == 1
    assert part.error.startswith("projection 'fragile' failed at position")
    # The other partitions continue, and no worker runs this one.
    wait_until(lambda: owners(sync_store, "fragile").count(None) == 1)
    documents = sync_store.documents(FragileInPart)
    wait_until(lambda: set(documents.find()) == set("abcdef"))
    assert documents.read("a") == {"sum": 1}
    sync_store.append("a", happened(2), expected=ANY)
    fragile.bad.clear()
    assert projection.restart() == 1
    wait_for(sync_store, "fragile", position + 1)
    assert documents.read("a") == {"sum": 16}
    assert projection.restart() == 0


@dataclass(frozen=True)
class Happened:
    number: int


class Typed(DocumentProjection[dict]):
    name = "typed"
    max_attempts = 1
    partitions = 4

    @handles(Happened)
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"sum": (document or {"sum": 0})["sum"] + event.data.number}


class TypedForgiving(Typed):
    name = "typed-forgiving"
    on_error = "park"


def test_an_event_that_cannot_be_read_stops_its_partition_alone(
    url: str, schema: str, sync_store: EventStore
) -> None:
    streams = "abcdef"
    for stream in streams:
        sync_store.append(stream, happened(1), expected=ANY)
    position = sync_store.append("a", NewEvent("Happened", {"number": "x"}), expected=ANY).position
    for stream in streams:
        sync_store.append(stream, happened(2), expected=ANY)
    running = Running("sync", url, schema, [Typed, TypedForgiving], lease=2, events=[Happened])
    wait_for(sync_store, "typed-forgiving", sync_store.head())
    stopped = sync_store.projection("typed")
    wait_until(lambda: [status.stopped for status in stopped.status()] == [1])
    with EventStore.connect(url, schema=schema, events=[Happened]) as store:
        hit = {other for other in streams if partition_of(other, 4) == partition_of("a", 4)}
        assert hit < set(streams)
        wait_until(
            lambda: (
                sum(s["sum"] for s in store.documents(Typed).find().values())
                == (3 * len(streams) - 2 * len(hit))
            )
        )
        running.stop()
        parked = store.projection("typed-forgiving").parked()
        assert [(event.position, event.partition) for event in parked] == [
            (position, partition_of("a", 4))
        ]
        # Neither parked events nor events after a checkpoint are in the way.
        for projection in (Typed, TypedForgiving):
            assert store.verify(projection).holds
        assert store.documents(TypedForgiving).read("a") == {"sum": 3}


def test_where_no_event_is_to_blame_a_projection_stops_whatever_its_policy(
    url: str, schema: str, sync_store: EventStore
) -> None:
    class Whole(ExternalProjection):
        name = "whole"
        max_attempts = 1
        on_error = "park"

        @handles("Happened")
        def happened(self, event: RecordedEvent) -> None:
            """Events come in batches."""

        def project(self, events: Sequence[RecordedEvent]) -> None:
            raise ConnectionError("it is down")

    sync_store.append("a", [happened(1), happened(2)], expected=ANY)
    running = Running("sync", url, schema, [Whole])
    wait_until(lambda: any(status.stopped for status in sync_store.projection_statuses()))
    running.stop()
    (status,) = sync_store.projection("whole").status()
    assert (status.parked, status.build.checkpoint) == (0, 0)
    assert status.build.partitions[0].error_position is None


class Careful(Fragile):
    """Tries again much later than the test lasts."""

    name = "careful"
    retry_after = 600


@pytest.mark.parametrize("variant", ["sync", "async"])
def test_an_attempt_whose_note_is_answered_by_nobody_counts_once(
    variant: str,
    url: str,
    schema: str,
    sync_store: EventStore,
    connection: psycopg.Connection,
) -> None:
    noted = f"SELECT attempts FROM {schema}.projection_partitions WHERE error IS NOT NULL"
    sync_store.append("a", happened(13), expected=ANY)
    with Proxy(url) as proxy:
        proxy.cut_after(b"ValueError: no 13")  # what is bound, not what is prepared
        running = Running(variant, proxy.url, schema, [Careful(13)], lease=2)
        wait_until(lambda: proxy.cuts > 0)
        proxy.cut_after(None)
        wait_until(lambda: connection.execute(noted).fetchall())
        running.stop()
    assert connection.execute(noted).fetchall() == [(1,)]


class Hasty(Forgiving):
    """Parks at the first error."""

    name = "hasty"
    max_attempts = 1


class Unspeakable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize(
    "error", [ValueError(os.fsdecode(b"\xe9\0")), Unspeakable()], ids=["bytes", "unspeakable"]
)
def test_an_error_whose_text_cannot_be_stored_is_noted_as_any(
    run: Run, sync_store: EventStore, error: Exception
) -> None:
    class Broken(Forgiving):
        name = "broken"

        @handles("Happened")
        def happened(self, document: dict | None, event: RecordedEvent) -> dict:
            raise error

    position = sync_store.append("a", happened(13), expected=ANY).position
    run(Broken())
    wait_for(sync_store, "broken", position)
    (parked,) = sync_store.projection("broken").parked()
    assert f"{type(error).__name__}: " in parked.error


class Ending(TableProjection):
    """Does in a handler what ends a thread or a task."""

    name = "ending"
    max_attempts = 1
    on_error = "park"
    ends_with: BaseException

    def __init__(self, ends_with: BaseException) -> None:
        self.ends_with = ends_with

    @handles("Happened")
    def happened(self, event: RecordedEvent, connection: Any) -> None:
        raise self.ends_with


class AsyncEnding(Ending):
    @handles("Happened")
    async def happened(  # type: ignore[override]
        self, event: RecordedEvent, connection: Any
    ) -> None:
        raise self.ends_with


@pytest.mark.parametrize(
    "ends_with", [SystemExit(3), asyncio.CancelledError()], ids=["exit", "cancelled"]
)
@pytest.mark.parametrize("variant", ["sync", "async"])
def test_a_handler_that_ends_its_thread_or_task_has_failed(
    variant: str, url: str, schema: str, sync_store: EventStore, ends_with: BaseException
) -> None:
    projection = (Ending if variant == "sync" else AsyncEnding)(ends_with)
    sync_store.append("a", happened(13), expected=ANY)
    running = Running(variant, url, schema, [projection], lease=2)
    wait_until(lambda: owners(sync_store, "ending"))
    wait_until(lambda: noted(sync_store, "ending"))
    running.stop()
    assert running.failure is None


def noted(store: EventStore, name: str) -> bool:
    """Whether an error of a projection is noted: an event is left out, or it is stopped."""
    (status,) = store.projection(name).status()
    return bool(status.parked or status.stopped)


def texts(connection: psycopg.Connection, schema: str) -> str:
    """All that projections note of errors."""
    found = connection.execute(
        f"SELECT error FROM {schema}.projection_parked"
        f" UNION ALL SELECT error FROM {schema}.projection_partitions"
    )
    return str(found.fetchall())


@pytest.mark.parametrize("projection", [Careful, Hasty])
def test_what_a_projection_notes_of_an_event_does_not_outlive_its_erasure(
    run: Run,
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    projection: type[Fragile],
) -> None:
    sync_store.append("a", happened(13), expected=ANY)
    run(projection(13))
    wait_until(lambda: "no 13" in texts(connection, schema))
    sync_store.erase_stream("a", reason="asked")
    found = texts(connection, schema)
    assert "no 13" not in found
    assert "the event was erased" in found


@pytest.mark.parametrize("projection", [Careful, Hasty])
@pytest.mark.parametrize("first", ["erased", "noted"])
def test_an_erasure_and_a_note_of_the_same_moment_leave_no_text(
    run: Run,
    url: str,
    schema: str,
    sync_store: EventStore,
    connection: psycopg.Connection,
    projection: type[Fragile],
    first: str,
) -> None:
    """Whichever comes first is stopped in the middle, before it commits."""
    function = "projection_park" if projection is Hasty else "projection_record_failure"
    sync_store.append("a", happened(13), expected=ANY)
    erasing = threading.Thread(
        target=sync_store.erase_stream, args=["a"], kwargs={"reason": "asked"}
    )
    if first == "erased":
        with stopped_at(url, schema, "events", "UPDATE") as place:
            erasing.start()
            place.wait_until_reached()
            run(projection(13))
            wait_until(lambda: waits(connection, function))
            place.release()
            erasing.join(20)
    else:
        table, event = (
            ("projection_parked", "INSERT")
            if projection is Hasty
            else ("projection_partitions", "UPDATE OF error_position")
        )
        with stopped_at(url, schema, table, event) as place:
            run(projection(13))
            place.wait_until_reached()
            erasing.start()
            wait_until(lambda: waits(connection, "erase_stream"))
            place.release()
            erasing.join(20)
    wait_until(lambda: "was erased" in texts(connection, schema))
    assert "no 13" not in texts(connection, schema)


def waits(connection: psycopg.Connection, function: str) -> bool:
    """Whether a session that calls the function waits for a lock."""
    return (
        connection.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s",
            [f"%{function}%"],
        ).fetchone()
        is not None
    )


def test_attempts_are_counted_across_daemons(
    run: Run, sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Otherwise a poison event that kills each worker would never be found out."""

    class Patient(Fragile):
        name = "patient"
        retry_after = 60

    sync_store.append("a", happened(13), expected=ANY)
    running = run(Patient(13))
    wait_until(lambda: any(status.errors for status in sync_store.projection_statuses()))
    running.stop()
    connection.execute(f"UPDATE {schema}.projection_partitions SET not_before = '-infinity'")
    run(Patient(13))
    wait_until(lambda: sync_store.projection("patient").status()[0].stopped)


def test_handlers_that_take_longer_than_the_lease_keep_it(url: str, schema: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(ExternalProjection):
        name = "slow"

        @handles("Happened")
        def happened(self, event: RecordedEvent) -> None:
            begun.set()
            assert go_on.wait(20)

    with EventStore.connect(url, schema=schema) as store:
        position = store.append("a", happened(1), expected=ANY).position
        first = Running("sync", url, schema, [Slow], lease=0.3, name="first")
        assert begun.wait(20)
        second = Running("sync", url, schema, [Slow], lease=0.3, name="second")
        (part,) = store.projections("slow")[0].partitions
        ends = part.expires_at
        assert ends is not None

        def has_been_renewed_often() -> bool:
            (part,) = store.projections("slow")[0].partitions
            assert part.owner == "first"
            return part.expires_at is not None and (part.expires_at - ends).total_seconds() > 0.6

        wait_until(has_been_renewed_often)
        go_on.set()
        wait_for(store, "slow", position)
        first.stop()
        second.stop()


def test_a_daemon_goes_on_when_its_connections_are_lost(
    run: Run, sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    run(Sums)
    wait_until(lambda: None not in (owners(sync_store) or [None]))
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND strpos(query, %s) > 0",
        [schema],
    )
    position = sync_store.append("a", [happened(1), happened(2)], expected=ANY).position
    sync_store.wait_for("sums", position)
    assert sync_store.documents(Sums).read("a") == {"sum": 3}
    assert sum(status.errors for status in sync_store.projection_statuses()) == 0


def test_live_effects_are_for_events_that_come_after_the_projection_was_begun(
    url: str, schema: str, sync_store: EventStore
) -> None:
    seen: list[int] = []

    class Telling(Sums):
        name = "telling"

        def on_live(self, event: RecordedEvent) -> None:
            seen.append(event.data["number"])
            raise RuntimeError("whoever is told does not listen")

    old = sync_store.append("a", [happened(number) for number in range(5)], expected=ANY)
    running = Running("sync", url, schema, [Telling], lease=2)
    wait_for(sync_store, "telling", old.position)
    new = sync_store.append("a", [happened(number) for number in (7, 8)], expected=ANY)
    wait_for(sync_store, "telling", new.position)
    wait_until(lambda: seen == [7, 8])
    running.stop()


def test_a_table_projection_is_kept_up_to_date_in_both_variants(
    run: Run,
    request: pytest.FixtureRequest,
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
) -> None:
    connection.execute(f"CREATE TABLE {schema}.totals AS SELECT 0::bigint AS total")
    update = f"UPDATE {schema}.totals SET total = total + %s"

    class Totals(TableProjection):
        name = "totals"

        @handles("Happened")
        def happened(self, event: RecordedEvent, connection: Any) -> None:
            connection.execute(update, [event.data["number"]])

    class AsyncTotals(TableProjection):
        name = "totals"

        @handles("Happened")
        async def happened(self, event: RecordedEvent, connection: Any) -> None:
            await connection.execute(update, [event.data["number"]])

    run(Totals if request.node.callspec.params["run"] == "sync" else AsyncTotals)
    wait_until(lambda: None not in (owners(sync_store, "totals") or [None]))
    position = sync_store.append("a", [happened(2), happened(3)], expected=ANY).position
    wait_for(sync_store, "totals", position)
    assert connection.execute(f"SELECT total FROM {schema}.totals").fetchone() == (5,)


def test_where_versions_serve_side_by_side_live_effects_are_those_of_the_newest(
    url: str, schema: str, sync_store: EventStore
) -> None:
    told: list[tuple[int, int]] = []

    class Telling(Sums):
        name = "telling"
        partitions = 1

        def on_live(self, event: RecordedEvent) -> None:
            told.append((self.version, event.data["number"]))

    newer = type("Newer", (Telling,), {"version": 2})
    sync_store.catch_up(Telling)
    sync_store.rebuild(newer)
    running = [Running("sync", url, schema, [each], lease=2) for each in (Telling, newer)]
    position = sync_store.append("a", happened(7), expected=ANY).position
    wait_until(lambda: min(b.checkpoint for b in sync_store.projections("telling")) >= position)
    for each in running:
        each.stop()
    assert told == [(2, 7)]


def test_what_is_done_at_once_is_one_or_more(connect: Connect) -> None:
    store = connect()
    for concurrency in (0, -1):
        with pytest.raises(InvalidInput, match="concurrency"):
            store.daemon([Sums], concurrency=concurrency)
        with pytest.raises(InvalidInput, match="concurrency"):
            store.rebuild(Sums, concurrency=concurrency)
    with pytest.raises(ProjectionNotFound):
        store.projections("sums")


@pytest.mark.parametrize(
    ("attribute", "value"), [("on_error", "ignore"), ("retry_after", -1), ("max_attempts", 0)]
)
def test_a_policy_that_is_none_is_refused(
    sync_store: EventStore, attribute: str, value: object
) -> None:
    with pytest.raises(InvalidInput, match=attribute):
        sync_store.daemon([type("Wrong", (Sums,), {attribute: value})])


def test_a_projection_is_given_to_a_daemon_once(sync_store: EventStore) -> None:
    with pytest.raises(InvalidInput, match="given twice"):
        sync_store.daemon([Sums, Sums])


def test_a_daemon_whose_end_fails_renews_nothing_any_more(run: Run) -> None:
    running = run(Sums)

    def fail() -> None:
        raise ValueError("broken")

    running.daemon._duty.leave = fail
    running.stop()

    assert isinstance(running.failure, ValueError)
    assert running.store._wakeup.watch.leases._held == {}
