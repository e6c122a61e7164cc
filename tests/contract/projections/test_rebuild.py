"""Rebuilds run next to the serving version and cut over in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from typing import Any, ClassVar

import psycopg
import pytest

from indelible import (
    ANY,
    DocumentProjection,
    EventStore,
    ExternalProjection,
    IndelibleError,
    InvalidInput,
    NewEvent,
    RecordedEvent,
    TableProjection,
    handles,
)
from indelible.errors import (
    EpochMismatch,
    ProjectionNotFound,
    ProjectionNotReady,
    ProjectionStopped,
)
from indelible.projections import RebuildProgress
from tests.conftest import Connect
from tests.support.daemons import Running
from tests.support.waiting import wait_until


def happened(number: int) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def some(count: int) -> list[NewEvent]:
    return [happened(1) for _ in range(count)]


class Total(DocumentProjection[dict]):
    name = "total"

    def key(self, event: RecordedEvent) -> str:
        return "all"

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"sum": (document or {"sum": 0})["sum"] + event.data["number"]}


class TotalInCents(Total):
    version = 2

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"cents": (document or {"cents": 0})["cents"] + 100 * event.data["number"]}


class InlineTotal(Total):
    name = "inline-total"


class Split(DocumentProjection[dict]):
    """By stream, in several partitions."""

    name = "split"
    partitions = 3

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"count": (document or {"count": 0})["count"] + 1}


@pytest.fixture
def second_face(url: str, schema: str) -> Iterator[EventStore]:
    """What another process has of the same store."""
    with EventStore.connect(url, schema=schema) as store:
        yield store


def sums(store: EventStore, upto: int | None = None) -> dict[int, int]:
    """What the total is at each position, by the log."""
    events = list(store.read_all())
    totals = accumulate(event.data["number"] for event in events)
    return {0: 0, **dict(zip((event.position for event in events), totals, strict=True))}


def build_ids(store: EventStore, name: str) -> list[int]:
    return [build.id for build in store.projections(name)]


@contextmanager
def appending(store: EventStore) -> Iterator[threading.Event]:
    """Appends from two threads until told to stop, or until the end of the block."""
    stop = threading.Event()

    def append(stream: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.append(stream, [happened(number), happened(1)], expected=ANY)

    threads = [threading.Thread(target=append, args=(f"s-{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_projection_is_rebuilt_in_place_of_the_one_before(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    store = connect(pool_size=8)
    for number in range(7):
        store.append(f"s-{number % 5}", happened(number), expected=ANY)
    store.catch_up(Split)
    (before,) = build_ids(store, "split")
    connection.execute(f"UPDATE {schema}.projection_documents SET document = '{{}}'")
    seen: list[RebuildProgress] = []
    store.rebuild(Split, report=seen.append)
    (after,) = build_ids(store, "split")
    assert before != after == seen[-1].build
    assert (seen[-1].is_done, seen[-1].events) == (True, 7)
    assert {key: found["count"] for key, found in store.documents(Split).find().items()} == {
        **dict.fromkeys(("s-0", "s-1"), 2),
        **dict.fromkeys(("s-2", "s-3", "s-4"), 1),
    }
    # The previous build is deleted.
    children = "SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass"
    parent = [f"{schema}.projection_documents"]
    assert len(connection.execute(children, parent).fetchall()) == 1


def test_at_the_swap_nothing_is_missing_or_doubled_while_appends_go_on(
    url: str, schema: str, sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every state that is ever read is the sum of exactly the events up to its checkpoint."""
    monkeypatch.setattr("indelible.projections.rebuild.CUT_OVER_DISTANCE", 200)
    seen: list[tuple[int, int]] = []
    documents = sync_store.documents(Total)

    def look(_: Any = None) -> None:
        found = documents.read_many(["all"])
        seen.append((found.checkpoint, found["all"]["sum"] if found else 0))

    sync_store.append("s-0", some(1_000), expected=ANY)
    sync_store.catch_up(Total)
    with ExitStack() as stack:
        running = Running("sync", url, schema, [Total], lease=2)
        stack.callback(running.stop)
        stack.enter_context(appending(sync_store))
        for _ in range(2):
            before = build_ids(sync_store, "total")
            sync_store.rebuild(Total, report=look)
            look()
            assert build_ids(sync_store, "total") != before
        # The daemon has switched to the serving build.
        position = sync_store.append("s-9", happened(5), expected=ANY).position
        sync_store.wait_for("total", position)
        look()
    expected = sums(sync_store)
    positions = sorted(expected)
    assert [checkpoint for checkpoint, _ in seen] == sorted(checkpoint for checkpoint, _ in seen)
    for checkpoint, total in seen:
        at = max(position for position in positions if position <= checkpoint)
        assert total == expected[at]


def test_an_inline_projection_is_rebuilt_while_appends_go_on(
    connect: Connect, url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.projections.rebuild.CUT_OVER_DISTANCE", 200)
    store = connect(pool_size=8)
    store.append("s-0", some(1_000), expected=ANY)
    with EventStore.connect(url, schema=schema, inline=[InlineTotal]) as writing:
        with pytest.raises(ProjectionNotReady):
            writing.documents(InlineTotal).read("all")
        with appending(writing):
            for _ in range(2):
                store.rebuild(InlineTotal)
        found = writing.documents(InlineTotal).read("all")
        assert found == {"sum": max(sums(writing).values())}
        position = writing.append("s-9", happened(5), expected=ANY).position
        assert writing.documents(InlineTotal).read("all") == {"sum": sums(writing)[position]}


class InlineCount(Split):
    """A document a stream: appends of different streams meet at none."""

    name = "inline-count"


@contextmanager
def held_open(store: EventStore, stream: str) -> Iterator[int]:
    """A transaction that has appended to an inline projection, and is open; gives its process."""
    with store.transaction() as transaction:
        transaction.append(stream, happened(1), expected=ANY)
        yield transaction._engine.connection.info.backend_pid


def test_appends_do_not_wait_for_a_swap_that_waits_for_an_open_transaction(
    connect: Connect, url: str, schema: str, connection: psycopg.Connection
) -> None:
    store = connect(pool_size=8)
    swap_waits = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND NOT granted"
    )
    with EventStore.connect(url, schema=schema, inline=[InlineCount]) as writing:
        writing.append("s-0", some(5), expected=ANY)
        (before,) = build_ids(writing, "inline-count")

        def append_beside() -> None:
            with ThreadPoolExecutor(1) as thread, held_open(writing, "s-1"):
                is_open.set()
                for number in range(3):  # attempts to cut over
                    wait_until(lambda: connection.execute(swap_waits).fetchone())
                    appending = thread.submit(
                        writing.append, f"s-2-{number}", happened(10), expected=ANY
                    )
                    appending.result(10)

        is_open = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            beside = thread.submit(append_beside)
            assert is_open.wait(30)
            store.rebuild(InlineCount)
            beside.result(30)
        assert build_ids(writing, "inline-count") != [before]
        found = writing.documents(InlineCount).find()
        assert {key: document["count"] for key, document in found.items()} == {
            "s-0": 5,
            "s-1": 1,
            **{f"s-2-{number}": 1 for number in range(3)},
        }
        assert writing.verify(InlineCount).holds


def test_a_swap_that_an_open_transaction_keeps_from_its_turn_says_which(
    connect: Connect, url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variant in ("", "_async"):
        monkeypatch.setattr(f"indelible.projections.rebuild_runner{variant}._PATIENCE", 0)
    store = connect(pool_size=8)
    with EventStore.connect(url, schema=schema, inline=[InlineCount]) as writing:
        with ThreadPoolExecutor(1) as thread, held_open(writing, "s-1") as pid:
            in_the_way = rf"inline-count.*process {pid} \(indelible, idle in transaction\)"
            with pytest.raises(IndelibleError, match=in_the_way):
                thread.submit(store.rebuild, InlineCount).result(30)
            begun = build_ids(writing, "inline-count")
        store.rebuild(InlineCount)
        assert build_ids(writing, "inline-count") == begun[1:]
        assert writing.documents(InlineCount).read("s-1") == {"count": 1}


def test_a_version_that_an_open_transaction_appends_to_is_not_dropped(
    sync_store: EventStore, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, inline=[InlineCount]) as writing:
        with ThreadPoolExecutor(2) as thread, held_open(writing, "s-1") as pid:
            dropping = thread.submit(sync_store.projection("inline-count").drop, 1)
            while not dropping.done():
                thread.submit(writing.append, "s-2", happened(1), expected=ANY).result(10)
            with pytest.raises(IndelibleError, match=f"process {pid} "):
                dropping.result()
        sync_store.projection("inline-count").drop(1)
        with pytest.raises(ProjectionNotFound):
            writing.documents(InlineCount).read("s-1")


def test_a_swap_that_is_stopped_in_the_middle_ends_with_its_session(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    with EventStore.connect(url, schema=schema, inline=[InlineTotal]) as writing:
        (build,) = build_ids(writing, "inline-total")
    connection.execute("BEGIN")
    connection.execute(f"SELECT {schema}.projection_force_lease(%s)", [build])
    timeout = "SELECT current_setting('idle_in_transaction_session_timeout')"
    assert connection.execute(timeout).fetchone() == ("10s",)
    connection.execute("ROLLBACK")


def test_a_build_that_is_about_to_serve_inline_is_leased_by_nobody(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    """Whoever looks before the swap and takes the lease after it would count events again."""
    sync_store.append("s-0", some(3), expected=ANY)
    with EventStore.connect(url, schema=schema, inline=[InlineTotal]):
        (build,) = build_ids(sync_store, "inline-total")
    lease = f"SELECT token FROM {schema}.projection_acquire(%s, 0::smallint, 'x', 0.001)"
    assert connection.execute(lease, [build]).fetchall() == [(1,)]
    with psycopg.connect(url) as swapping:
        swapping.execute(
            f"UPDATE {schema}.projections SET state = 'serving' WHERE id = %s", [build]
        )
        assert connection.execute(lease, [build]).fetchall() == []
        swapping.commit()
    assert connection.execute(lease, [build]).fetchall() == []


class Interrupted(Total):
    name = "interrupted"
    meanwhile: ClassVar[list[Callable[[], None]]] = []

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        while self.meanwhile:
            self.meanwhile.pop()()
        return super().happened(document, event)


def test_a_swap_while_it_is_verified_takes_nothing_from_a_projection(
    sync_store: EventStore, second_face: EventStore
) -> None:
    sync_store.append("a-1", some(3), expected=ANY)
    sync_store.catch_up(Interrupted)
    Interrupted.meanwhile.append(lambda: second_face.rebuild(Interrupted))

    assert sync_store.verify(Interrupted).holds
    assert not Interrupted.meanwhile
    assert sync_store.verify(Interrupted).holds


@pytest.mark.parametrize("lifecycle", ["inline", "async"])
def test_two_rebuilds_at_once_are_one(
    sync_store: EventStore, url: str, schema: str, lifecycle: str
) -> None:
    projection = InlineTotal if lifecycle == "inline" else Total
    with EventStore.connect(
        url, schema=schema, inline=[projection] if lifecycle == "inline" else []
    ) as writing:
        writing.append("s-0", some(300), expected=ANY)
        if lifecycle == "async":
            writing.catch_up(projection)
        failures: list[BaseException] = []

        def rebuild() -> None:
            try:
                sync_store.rebuild(projection)
            except BaseException as error:
                failures.append(error)

        with appending(writing):
            threads = [threading.Thread(target=rebuild) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert failures == []
        if lifecycle == "async":
            writing.catch_up(projection)
        assert writing.documents(projection).read("all") == {"sum": max(sums(writing).values())}
        assert len(writing.projections(projection.name)) == 1


def test_what_one_sweep_drops_another_leaves_alone(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    """A table that somebody drops is half there for a moment: its name is, its parent is not."""

    class Numbers(TableProjection):
        name = "numbers"

        @handles("Happened")
        def happened(self, connection: psycopg.Connection, event: RecordedEvent) -> None:
            """Keep nothing."""

    sync_store.catch_up(Numbers)
    sync_store.catch_up(Total)
    retire = f"UPDATE {schema}.projections SET state = 'retired', retired_at = now() RETURNING id"
    retired = connection.execute(retire).fetchall()
    # One is between the two: it has deleted the previous build, and not committed yet.
    connection.execute(
        f"CREATE FUNCTION {schema}.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " WHILE current_setting('application_name') = 'slow'"
        "   AND NOT pg_try_advisory_xact_lock(hashtext(TG_TABLE_SCHEMA)) LOOP"
        "   PERFORM pg_sleep(0.01);"
        " END LOOP;"
        " RETURN NULL; END $$"
    )
    connection.execute(
        f"CREATE TRIGGER linger AFTER DELETE ON {schema}.projections"
        f" FOR EACH ROW EXECUTE FUNCTION {schema}.linger()"
    )
    connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [schema])
    sweep = f"SELECT {schema}.projection_drop_retired()"
    with psycopg.connect(url, autocommit=True, application_name="slow") as slow:
        with ThreadPoolExecutor(1) as pool:
            sweeping = pool.submit(lambda: slow.execute(sweep).fetchone())
            try:
                lingers = (
                    "SELECT pid FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'",
                    [slow.info.backend_pid],
                )
                wait_until(lambda: connection.execute(*lingers).fetchone() or sweeping.done())
                (kept,) = connection.execute(sweep).fetchone() or ()
            finally:
                connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", [schema])
            assert sweeping.result(30) == (0,)
    assert kept == len(retired)
    assert connection.execute(sweep).fetchone() == (0,)
    left = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = %s::regnamespace"
    tables = {name for (name,) in connection.execute(left, [schema])}
    assert tables
    assert not any(name.startswith("documents_") for name in tables)


def test_an_inline_build_that_serves_is_brought_on_by_appends_alone(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    """The daemon of a rebuild that has not noticed yet would count twice."""
    sync_store.append("s-0", some(3), expected=ANY)
    serves = threading.Event()

    def wait(_: RebuildProgress) -> None:
        assert serves.wait(30)

    with ExitStack() as stack:
        inline = EventStore.connect(url, schema=schema, inline=[InlineTotal])
        writing = stack.enter_context(inline)
        slow = threading.Thread(target=lambda: sync_store.rebuild(InlineTotal, report=wait))
        slow.start()
        stack.callback(slow.join, 30)
        stack.callback(serves.set)
        wait_until(lambda: any(b.checkpoint for b in writing.projections("inline-total")))
        writing.rebuild(InlineTotal)
        (build,) = writing.projections("inline-total")
        writing.append("s-0", some(5), expected=ANY)
        lease = f"SELECT * FROM {schema}.projection_acquire(%s, 0::smallint, 'x', 10)"
        assert connection.execute(lease, [build.id]).fetchall() == []
        serves.set()
        slow.join(30)
        assert not slow.is_alive()
        assert writing.documents(InlineTotal).read("all") == {"sum": 8}


def test_an_interrupted_rebuild_goes_on_from_its_checkpoint(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(pool_size=8)
    store.append("s-0", some(30), expected=ANY)
    store.catch_up(Total)
    head = store.head()

    def interrupt(so_far: RebuildProgress) -> None:
        if so_far.position >= head:
            raise KeyboardInterrupt

    for module in ("rebuild", "assignment"):
        monkeypatch.setattr(
            f"indelible.projections.{module}.CUT_OVER_DISTANCE", -1_000
        )  # it never cuts over
    with pytest.raises(KeyboardInterrupt):
        store.rebuild(Total, report=interrupt)
    serving, building = store.projections("total")
    assert (serving.state, building.state) == ("serving", "building")
    monkeypatch.undo()

    store.append("s-0", some(5), expected=ANY)
    seen: list[RebuildProgress] = []
    store.rebuild(Total, report=seen.append)
    assert (seen[0].build, seen[0].position >= head, seen[0].events) == (building.id, True, 30)
    assert seen[-1].is_done
    store.catch_up(Total)
    assert store.projections("total")[0].partitions[0].handled == 35
    assert store.documents(Total).read("all") == {"sum": 35}


def test_a_rebuild_whose_code_fails_leaves_what_serves_and_goes_on_when_it_is_mended(
    connect: Connect,
) -> None:
    class Fragile(Total):
        name = "fragile"
        max_attempts = 1

        def __init__(self) -> None:
            self.bad = -1

        @handles("Happened")
        def happened(self, document: dict | None, event: RecordedEvent) -> dict:
            if event.data["number"] == self.bad:
                raise ValueError("no")
            return super().happened(document, event)

    store = connect(pool_size=8)
    result = store.append("s-0", [happened(1), happened(13)], expected=ANY)
    fragile = Fragile()
    store.catch_up(fragile)
    fragile.bad = 13
    with pytest.raises(ProjectionStopped, match="ValueError: no") as caught:
        store.rebuild(fragile)
    assert caught.value.position == result.position
    assert store.documents(Fragile).read("all") == {"sum": 14}
    fragile.bad = -1
    store.rebuild(fragile)
    assert store.documents(Fragile).read("all") == {"sum": 14}
    assert len(store.projections("fragile")) == 1


def test_old_and_new_versions_are_served_side_by_side_in_a_rolling_deployment(
    url: str, schema: str, sync_store: EventStore
) -> None:
    def read(projection: type[Total]) -> dict | None:
        document: dict | None = sync_store.documents(projection).read("all")
        return document

    with ExitStack() as stack:
        old = Running("sync", url, schema, [Total], lease=0.6, name="old")
        stack.callback(old.stop)
        sync_store.append("s-0", some(10), expected=ANY)
        wait_until(lambda: sync_store.projection_statuses())
        new = Running("sync", url, schema, [TotalInCents], lease=0.6, name="new")
        stack.callback(new.stop)

        def states() -> list[tuple[int, str, str | None]]:
            return [
                (build.version, build.state, build.partitions[0].owner)
                for build in sync_store.projections("total")
            ]

        wait_until(lambda: states() == [(1, "serving", "old"), (2, "serving", "new")])
        position = sync_store.append("s-0", happened(5), expected=ANY).position
        wait_until(lambda: all(b.checkpoint >= position for b in sync_store.projections("total")))
        assert (read(Total), read(TotalInCents)) == ({"sum": 15}, {"cents": 1_500})
        old.stop()
        sync_store.projection("total").drop(1)
        with pytest.raises(ProjectionNotReady):
            read(Total)
        with pytest.raises(ProjectionNotFound):
            sync_store.projection("total").drop(1)
        assert read(TotalInCents) == {"cents": 1_500}


def test_no_live_effects_in_a_rebuild(sync_store: EventStore) -> None:
    told: list[int] = []

    class Telling(Total):
        name = "telling"

        def on_live(self, event: RecordedEvent) -> None:
            told.append(event.position)

    sync_store.catch_up(Telling)
    sync_store.append("s-0", some(3), expected=ANY)
    sync_store.catch_up(Telling)
    sync_store.rebuild(Telling)
    assert told == []


@pytest.mark.parametrize("lag", [1, 3])
def test_a_build_that_is_behind_does_not_serve(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, lag: int
) -> None:
    """A reader that has seen a state must not see an older one after it."""
    sync_store.append("s-0", some(lag), expected=ANY)
    sync_store.catch_up(Total)
    begin = f"SELECT {schema}.projection_start_rebuild('total', 1)"
    build = connection.execute(begin).fetchone()
    assert build is not None
    assert connection.execute(begin).fetchone() == build
    serve = f"SELECT {schema}.projection_cut_over(%s)"
    assert connection.execute(serve, build).fetchone() == (False,)
    assert sync_store.documents(Total).read("all") == {"sum": lag}


def test_an_older_version_that_is_rebuilt_takes_nothing_back_from_its_readers(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Not even where a newer version is far behind."""
    sync_store.append("s-0", some(1), expected=ANY)
    sync_store.catch_up(Total)
    sync_store.rebuild(TotalInCents)
    sync_store.append("s-0", some(4), expected=ANY)
    sync_store.catch_up(Total)
    begin = f"SELECT {schema}.projection_start_rebuild('total', 1)"
    build = connection.execute(begin).fetchone()
    connection.execute(
        f"UPDATE {schema}.projection_partitions SET position = 2 WHERE projection_id = %s", build
    )
    serve = f"SELECT {schema}.projection_cut_over(%s)"
    assert connection.execute(serve, build).fetchone() == (False,)
    assert sync_store.documents(Total).read("all") == {"sum": 5}


@pytest.mark.parametrize("stopped", [False, True])
def test_a_rebuild_is_done_when_all_that_stood_in_the_log_is_in_it(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """A build may take the place of one that never began, or stopped early, at its beginning."""
    monkeypatch.setattr("indelible.streams.read_log._FIRST_WINDOW", 10)
    monkeypatch.setattr("indelible.streams.read_log._LARGEST_WINDOW", 10)

    class Early(Total):
        name = "early"
        max_attempts = 1
        is_broken = stopped

        @handles("Happened")
        def happened(self, document: dict | None, event: RecordedEvent) -> dict:
            if self.is_broken:
                raise ValueError("no")
            return super().happened(document, event)

    store = connect(pool_size=8)
    store.append("s-0", some(300), expected=ANY)
    if stopped:
        with pytest.raises(ProjectionStopped):
            store.rebuild(Early)
        Early.is_broken = False
    seen: list[RebuildProgress] = []
    store.rebuild(Early, report=seen.append)
    assert (seen[-1].is_done, seen[-1].events) == (True, 300)
    assert store.documents(Early).read("all") == {"sum": 300}


def test_a_rebuild_that_is_refused_says_why(connect: Connect) -> None:
    class Log(ExternalProjection):
        name = "log"

        @handles("Happened")
        def happened(self, event: RecordedEvent) -> None:
            """Tell somebody."""

    class AsyncLog(ExternalProjection):
        name = "log"

        @handles("Happened")
        async def happened(self, event: RecordedEvent) -> None:
            """Tell somebody."""

    log = Log if connect.variant == "sync" else AsyncLog
    newer = type("Newer", (log,), {"version": 2})
    store = connect(pool_size=8)
    store.append("s-0", some(3), expected=ANY)
    store.catch_up(log)
    with store.projector(newer) as projector:
        assert projector.take_over()
    store.renew_epoch()
    seen: list[RebuildProgress] = []

    def report(so_far: RebuildProgress) -> None:
        seen.append(so_far)
        assert len(seen) < 30

    with pytest.raises(EpochMismatch):
        store.rebuild(newer, report=report)


def test_a_rebuild_of_an_inline_projection_leaves_out_what_its_policy_says(
    connect: Connect, url: str, schema: str
) -> None:
    class Forgiving(InlineTotal):
        name = "forgiving"
        max_attempts = 1
        on_error = "park"

        @handles("Happened")
        def happened(self, document: dict | None, event: RecordedEvent) -> dict:
            if event.data["number"] == 13:
                raise ValueError("no")
            return super().happened(document, event)

    store = connect(pool_size=8)
    store.append("s-0", [happened(1), happened(13), happened(2)], expected=ANY)
    with EventStore.connect(url, schema=schema, inline=[Forgiving]) as writing:
        seen: list[RebuildProgress] = []
        store.rebuild(Forgiving, report=seen.append)
        assert (seen[-1].is_done, seen[-1].left_out) == (True, 1)
        assert writing.documents(Forgiving).read("all") == {"sum": 3}


def test_what_is_kept_elsewhere_is_rebuilt_in_a_new_version(sync_store: EventStore) -> None:
    taken: list[tuple[int, int]] = []

    class Log(ExternalProjection):
        name = "log"

        @handles("Happened")
        def happened(self, event: RecordedEvent) -> None:
            taken.append((self.version, event.data["number"]))

    sync_store.append("s-0", happened(1), expected=ANY)
    sync_store.catch_up(Log)
    with pytest.raises(InvalidInput, match="increase its version"):
        sync_store.rebuild(Log)
    sync_store.rebuild(type("Log", (Log,), {"version": 2}))
    assert taken == [(1, 1), (2, 1)]
    assert [build.state for build in sync_store.projections("log")] == ["serving", "serving"]


@pytest.mark.parametrize("lifecycle", ["async", "inline"])
def test_a_table_projection_is_built_beside_by_its_new_version(
    sync_store: EventStore,
    connection: psycopg.Connection,
    url: str,
    schema: str,
    lifecycle: str,
) -> None:
    class Numbers(TableProjection):
        name = "numbers"

        @handles("Happened")
        def happened(self, event: RecordedEvent, connection: psycopg.Connection) -> None:
            insert = f"INSERT INTO {schema}.numbers_{self.version} VALUES (%s)"
            connection.execute(insert, [event.data["number"]])

    class NewNumbers(Numbers):
        version = 2

    def numbers(version: int) -> list[int]:
        select = f"SELECT number FROM {schema}.numbers_{version} ORDER BY number"
        return [number for (number,) in connection.execute(select).fetchall()]  # type: ignore[arg-type]

    for version in (1, 2):
        connection.execute(f"CREATE TABLE {schema}.numbers_{version} (number bigint)")
    sync_store.append("s-0", [happened(1), happened(2)], expected=ANY)
    if lifecycle == "async":
        sync_store.catch_up(Numbers)
        with pytest.raises(InvalidInput, match="increase its version"):
            sync_store.rebuild(Numbers)
        sync_store.rebuild(NewNumbers)
    else:
        for projection in (Numbers, NewNumbers):
            with EventStore.connect(url, schema=schema, inline=[projection]) as writing:
                sync_store.rebuild(projection)
                writing.append("s-0", happened(3), expected=ANY)
    assert [build.state for build in sync_store.projections("numbers")] == ["serving", "serving"]
    if lifecycle == "async":
        assert numbers(1) == numbers(2) == [1, 2]
    else:
        assert (numbers(1), numbers(2)) == ([1, 2, 3], [1, 2, 3, 3])


def test_an_inline_projection_of_a_long_log_is_verified(
    connect: Connect, schema: str, connection: psycopg.Connection
) -> None:
    """Its appends read no log, so no window of the log is written, and a snapshot writes none."""
    store = connect(inline=[InlineTotal])
    for number in range(4):
        store.append("s-1", happened(number), expected=ANY)
        connection.execute(  # as transactions do that are rolled back
            f"SELECT max(nextval('{schema}.events_position')) FROM generate_series(1, 12000)"
        )
    verification = store.verify(InlineTotal)
    assert (verification.holds, verification.events) == (True, 4)
