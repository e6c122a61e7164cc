"""The command line, run in this process; test_cli.py has the tests that start one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from indelible import (
    ANY,
    DocumentProjection,
    EventStore,
    NewEvent,
    Query,
    RecordedEvent,
    __version__,
    handles,
)
from indelible.errors import SchemaMissing, SchemaOutdated
from indelible.postgres.migrations import FUNCTION_SET
from indelible.testing.temporary_stores import FreshStores
from tests.support.command import Command, Done
from tests.support.waiting import wait_until


@pytest.fixture
def command(url: str, schema: str) -> Command:
    """Runs `indelible` on an empty store."""
    return Command(url, schema)


@pytest.fixture
def store(url: str, schema: str) -> Iterator[EventStore]:
    """The store that the command looks at."""
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


# Moments ----------------------------------------------------------------------------------------


def test_words_send_a_group_to_the_last_moment_of_their_kind(
    command: Command, store: EventStore
) -> None:
    """On every day of the week: where they meant the next one, all that waits would be skipped."""
    store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)
    command("groups", "create", "mails", "--start", "head")

    for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"):
        done = command("groups", "reset", "mails", "--to", day, "-y")
        assert (done.code, done.out) == (0, "group mails continues after position 0\n")
        assert done.err.startswith("--to is 20")
        told = datetime.fromisoformat(done.err[len("--to is ") : -len(" UTC\n")])
        assert timedelta(0) <= datetime.now(UTC) - told.replace(tzinfo=UTC) < timedelta(days=7)


def test_a_moment_that_is_still_to_come_is_refused_where_only_the_past_makes_sense(
    command: Command, store: EventStore
) -> None:
    store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)
    command("groups", "create", "mails")
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    for moment in ("tomorrow", "in 1 hour", ahead):
        for arguments in (
            ("log", "--as-of", moment),
            ("read", "order-1", "--as-of", moment),
            ("groups", "reset", "mails", "--to", moment, "-y"),
            ("groups", "create", "other", "--start", moment),
        ):
            done = command(*arguments)
            assert (done.code, done.out) == (2, "")
            assert "in the future" in done.err
            assert arguments[arguments.index(moment) - 1] in done.err
    assert [row["checkpoint"] for row in command("groups", "list", "--json").lines()] == ["0"]


def test_the_moment_that_words_stand_for_is_told_and_asked_about(
    command: Command, store: EventStore
) -> None:
    store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)
    command("groups", "create", "mails")
    midnight = f"{datetime.now(UTC).date()} 00:00:00.000 UTC"

    assert command("log", "--as-of", "today").err == (f"--as-of is {midnight}\nno events match\n")
    asked = command("groups", "reset", "mails", "--to", "today")
    assert asked.code == 2
    assert f"from 0 to {midnight}?" in asked.err
    assert command("log", "--as-of", datetime.now(UTC).isoformat()).err == ""


def test_eight_digits_are_no_position_without_a_word(command: Command, store: EventStore) -> None:
    for arguments in (
        ("log", "--as-of", "20261127"),
        ("groups", "create", "mails", "--start", "20261127"),
    ):
        done = command(*arguments)
        assert done.code == 2
        assert "could be a date or a position: write 2026-11-27 or 20,261,127" in done.err
    assert command("log", "--as-of", "20,261,127").code == 0
    assert command("log", "--as-of", "20269927").code == 0  # not a day


def test_a_valid_time_that_could_be_the_last_or_the_next_is_refused(command: Command) -> None:
    done = command("log", "--valid-at", "monday")

    assert done.code == 2
    assert "--valid-at 'monday' is ambiguous: write 20" in done.err
    assert command("log", "--valid-at", "next monday").code == 0
    assert command("log", "--valid-at", "last monday").code == 0


# Export and import ------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
_MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))


def _raw(value: object) -> msgspec.Raw:
    """JSON in which a decimal stands with all its digits."""
    return msgspec.Raw(msgspec.json.Encoder(decimal_format="number").encode(value))


def _step(draw: st.DrawFn, store: EventStore, number: int) -> None:
    """Do something to one of three streams."""
    stream = draw(st.sampled_from(["a-1", "a-2", "ä"]))
    do = draw(
        st.sampled_from(["append", "append", "append", "close", "reopen", "archive", "erase"])
    )
    known = store.stream(stream)
    if do == "append" and (known is None or known.closed_at is None):
        data = draw(_JSON)
        if draw(st.integers(0, 20)) == 0:
            data = [data, "x" * 1_100_000]
        event = NewEvent(
            draw(st.sampled_from(["A", "B"])),
            _raw(data),
            metadata=draw(st.just({}) | st.just({"n": _raw(Decimal("0.12345678901234567890"))})),
            tags=draw(st.lists(st.sampled_from(["k:1", "k:2"]), unique=True)),
            valid_at=draw(st.none() | _MOMENTS),
        )
        channel = None if known is not None else draw(st.none() | st.just("shop"))
        store.append(stream, event, expected=ANY, channel=channel)
    elif known is None:
        return
    elif do == "close":
        store.close_stream(stream, expected=ANY, reason=draw(st.none() | st.just(f"no. {number}")))
    elif do == "reopen":
        store.reopen_stream(stream)
    elif do == "archive" and known.closed_at is not None:
        store.archive_stream(stream, reason="old")
    elif do == "erase":
        store.erase_stream(stream, reason="asked for")


def _answers(store: EventStore, moments: Sequence[datetime]) -> dict[str, object]:
    """What a store answers to reads of every kind, but for positions."""
    store._append_settings.codec.keep_as_stored()
    names = [stream.stream for stream in store.streams()]

    def told(found: Iterable[RecordedEvent]) -> list[tuple[object, ...]]:
        return [msgspec.structs.astuple(event)[1:] for event in found]

    return {
        "log": told(store.read_all(backwards=True)),
        "tags": told(store.read_all(Query(types="A", tags="k:1"))),
        "channel": told(store.read_all(Query(channel="shop"))),
        "valid": told(store.read_all(valid_at=datetime.now(UTC))),
        "as of": [told(store.read_all(as_of=moment)) for moment in moments],
        "streams": [replace(stream, position=0) for stream in store.streams()],
        "changes": [store.stream_changes(name) for name in names],
        "read": [told(store.read(name)) for name in names],
        "valid streams": [told(store.read(name, valid_at=datetime.now(UTC))) for name in names],
    }


@given(drawn=st.data())
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_store_that_is_exported_and_imported_answers_every_read_alike(
    indelible_stores: FreshStores, drawn: st.DataObject
) -> None:
    with indelible_stores.store() as one, indelible_stores.store() as other:
        with one.connect(max_event_bytes=4_000_000) as store:
            for number in range(drawn.draw(st.integers(1, 12))):
                _step(drawn.draw, store, number)
            moments = [event.recorded_at for event in store.read_all()]
            answers = _answers(store, moments)
        log = Command(one.url, one.schema)("log", "--json").out
        imported = Command(other.url, other.schema)

        done = imported("store", "import", "-", "--keep-recorded-at", given=log.encode())
        assert done.code == 0, done.err
        with other.connect() as store:
            assert _answers(store, moments) == answers
        again = imported("store", "import", "-", "--keep-recorded-at", given=log.encode())
        assert again.out.startswith("0 events imported")


def test_numbers_keep_their_digits_on_the_way_in_and_out(command: Command) -> None:
    data = '{"n":0.1234567890123456789,"big":123456789012345678901234567890}'
    command("append", "a-1", "A", data, "-e", "any", "--metadata", '{"m":0.10000000000000000001}')
    line = f'{{"stream":"a-2","type":"A","data":{data}}}\n'
    command("append", "-e", "any", "-f", "-", given=line.encode())

    for stream in ("a-1", "a-2"):
        assert f'"data":{data}' in command("read", stream, "--json").out
        assert data in command("read", stream).out
    assert '"metadata":{"m":0.10000000000000000001}' in command("log", "--json").out


def test_what_an_erased_event_holds_is_refused(command: Command) -> None:
    for wrong in ('"data":1', '"data":null,"metadata":{"by":"ann"}'):
        line = f'{{"stream":"a-1","type":"A","erased":true,{wrong}}}\n'
        done = command("store", "import", "-", "--source", "x", given=line.encode())
        assert (done.code, "is erased, so it must not have data" in done.err) == (2, True)


def test_a_stream_that_was_archived_elsewhere_is_archived_here(
    command: Command, store: EventStore, indelible_stores: FreshStores
) -> None:
    store.append("a-1", [NewEvent("A", 1), NewEvent("A", 2)], expected=ANY)
    store.close_stream("a-1", expected=ANY, reason=None)
    store.archive_stream("a-1", reason=None)
    with indelible_stores.store() as other:
        imported = Command(other.url, other.schema)
        imported("store", "import", "-", given=command("log", "--json").out.encode())
        with psycopg.connect(other.url) as connection:
            count = f"SELECT count(*) FROM {other.schema}.archived_events"
            assert connection.execute(count).fetchone() == (2,)
        refused = imported("append", "a-1", "A", "-e", "any")
        assert (refused.code, "was closed" in refused.err) == (1, True)


def test_an_import_past_inline_projections_says_what_to_build_anew(
    command: Command, url: str, schema: str
) -> None:
    class Tips(DocumentProjection[dict]):
        name = "tips"

        @handles("OrderTipped")
        def tipped(self, document: dict | None, event: RecordedEvent) -> dict:
            return {"amount": event.data}

    with EventStore.connect(url, schema=schema, inline=[Tips]):
        pass
    line = b'{"stream":"order-1","type":"OrderTipped","data":2}\n'
    refused = command("store", "import", "-", "--source", "x", given=line)
    assert (refused.code, refused.out) == (2, "")
    assert "line 1: inline projection 'tips' handles 'OrderTipped'" in refused.err
    assert "--past-inline" in refused.err

    done = command("store", "import", "-", "--source", "x", "--past-inline", given=line)
    assert (done.code, done.out) == (0, "1 event imported\n")
    assert "indelible projections rebuild tips --app MODULE:APP" in done.err


# What the shell gives and takes -----------------------------------------------------------------


def _is_told(done: Done, *words: str) -> None:
    """Wrong input: one line, which says what is wrong."""
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("indelible: ")
    for word in words:
        assert word in done.err


def test_what_is_not_utf_8_is_refused_in_a_line(command: Command, tmp_path: Path) -> None:
    latin = '{"stream":"a-1","type":"A","data":"é"}\n'.encode("latin-1")
    file = tmp_path / "events"
    file.write_bytes(latin)

    for arguments in (("store", "import", "--source", "x"), ("append", "-e", "any", "-f")):
        _is_told(command(*arguments, "-", given=latin), "line 1", "UTF-8")
        _is_told(command(*arguments, str(file)), "line 1", "UTF-8")
        utf_16 = command(*arguments, "-", given=latin.decode("latin-1").encode("utf-16"))
        _is_told(utf_16, "UTF-16", "iconv")
    argument = os.fsdecode(b'"\xe9"')
    _is_told(command("append", "a-1", "A", argument, "-e", "any"), "DATA")
    _is_told(command("append", "a-1", argument, "-e", "any"))
    _is_told(command("read", argument))
    _is_told(command("log", "--type", argument))
    _is_told(command("store", "stats", "--url", f"postgresql://h/{argument}"), "URL")
    _is_told(command("store", "stats", "--schema", argument), "schema")
    _is_told(command("run", f"{argument}:app"), "module")


def test_a_byte_order_mark_is_passed_over(command: Command) -> None:
    line = b'\xef\xbb\xbf{"stream":"a-1","type":"A","data":1}\n'

    assert command("store", "import", "-", "--source", "x", given=line).code == 0
    assert command("append", "-e", "any", "-f", "-", given=line).code == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
def test_output_in_another_encoding_says_the_same(
    command: Command, store: EventStore, encoding: str
) -> None:
    store.append("ü-1", NewEvent("Größe", "€ 😀"), expected=ANY)

    (event,) = command("log", "--json", encoding=encoding).lines()
    assert (event["stream"], event["type"], event["data"]) == ("ü-1", "Größe", "€ 😀")
    for arguments in (
        ("log",),
        (
            "streams",
            "list",
        ),
        ("read", "ü-1"),
        (
            "types",
            "list",
        ),
        ("--help",),
    ):
        assert command(*arguments, encoding=encoding).code == 0
    refused = command("read", "ß-1", encoding=encoding)
    assert (refused.code, "does not exist" in refused.err) == (1, True)


def _in_a_shell(
    command: str, url: str, schema: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run `indelible` in a process of its own, as a line of a shell has it."""
    return subprocess.run(
        ["sh", "-c", command, sys.executable, "-m", "indelible", *arguments],
        env={**os.environ, "INDELIBLE_URL": url, "INDELIBLE_SCHEMA": schema},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", ["--help", "log", "log --json", "append a-1 A -e any"])
def test_closed_standard_streams_are_the_null_device(
    store: EventStore, url: str, schema: str, arguments: str
) -> None:
    store.append("a-1", NewEvent("A", 1), expected=ANY)

    done = _in_a_shell('exec "$0" "$@" <&- >&-', url, schema, *arguments.split())
    assert (done.returncode, done.stderr) == (0, "")
    done = _in_a_shell('exec "$0" "$@" 2>&-', url, schema, "read", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", ["--version", "log", "log --json", "store stats"])
def test_a_full_disk_is_told_in_a_line(
    store: EventStore, url: str, schema: str, arguments: str
) -> None:
    store.append("a-1", NewEvent("A", 1), expected=ANY)

    done = _in_a_shell('exec "$0" "$@" > /dev/full', url, schema, *arguments.split())
    assert done.stderr == "indelible: cannot write the output: No space left on device\n"
    assert done.returncode == 5
    assert _in_a_shell('exec "$0" "$@" 2>/dev/full', url, schema, "read", "b").returncode == 1


_BROKEN = {
    "NameError: name 'nothing' is not defined": "def made():\n    return nothing\n\nmade()\n",
    "No module named 'nowhere_at_all'": "import nowhere_at_all\n",
    "SyntaxError": "def x(:\n",
    "SystemExit: 3": "import sys\n\nsys.exit(3)\n",
    "RuntimeError: two": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as one:\n"
        "    raise RuntimeError('two') from one\n"
    ),
}


@pytest.mark.parametrize("says", _BROKEN)
def test_of_a_module_that_cannot_be_imported_its_own_frames_are_shown(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"broken_{list(_BROKEN).index(says)}"
    (tmp_path / f"{name}.py").write_text(_BROKEN[says], "utf-8")

    for arguments in (
        ("run", f"{name}:app"),
        ("types", "check", f"{name}:EVENTS"),
        ("projections", "verify", "x", "--app", name),
    ):
        done = command(*arguments)
        assert (done.code, done.out) == (2, "")
        told = done.err.splitlines()[-1]
        assert told.startswith(f"indelible: module '{name}' cannot be imported: ")
        assert says in told
        frames = re.findall(r'File "([^"]+)"', done.err)
        assert {Path(frame).name for frame in frames} == {f"{name}.py"}


def test_a_module_that_imports_the_beginning_of_its_own_name_is_there(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shopping_list.py").write_text("import shopping\n", "utf-8")

    assert "No module named 'shopping'" in command("run", "shopping_list:app").err
    assert "module 'shopping' not found" in command("run", "shopping:app").err


# A terminal of 80 columns ------------------------------------------------------------------------


def _whole(done: Done) -> str:
    """What a terminal of 80 columns shows, without the breaks and the indents of its lines."""
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    return re.sub(r"\s+", "", done.out)


def test_nothing_is_cut_off_on_a_terminal_of_80_columns(
    command: Command, store: EventStore
) -> None:
    stream = "order-018f0000-0000-7000-8000-000000000001"
    data = {"items": ["a long item, in words"] * 12, "total": 12}
    store.append(stream, NewEvent("OrderWasTippedAtTheEnd", data), expected=ANY)
    store.append("b-1", NewEvent("Short", data), expected=ANY)
    written = re.sub(r"\s+", "", json.dumps(data))

    for arguments in (("log",), ("read", stream), ("read", "b-1"), ("log", "--limit", "1")):
        assert written in _whole(command(*arguments, columns=80))
    live = command("log", "--follow", "--after", "0", "-n", "2", columns=80)
    assert _whole(live).count(written) == 2
    for arguments in (
        ("log",),
        (
            "streams",
            "list",
        ),
    ):
        assert stream in _whole(command(*arguments, columns=80))


def test_why_events_are_parked_is_shown_on_a_terminal_of_80_columns(
    command: Command, store: EventStore
) -> None:
    store.append("order-17", NewEvent("OrderTipped", 1), expected=ANY)
    why = "ValueError: " + " ".join(f"reason{number}" for number in range(30))
    group = store.group("mails")
    group.create(max_attempts=1)
    with group.consume() as consumer:
        event = consumer.take(timeout=20)
        assert event is not None
        event.park(error=why)
    assert re.sub(r"\s+", "", why) in _whole(command("groups", "parked", "mails", columns=80))
    for arguments in (("groups", "list"), ("groups", "show", "mails")):
        assert "mails" in _whole(command(*arguments, columns=80))


def test_the_last_error_of_a_projection_is_shown_on_a_terminal_of_80_columns(
    command: Command, store: EventStore
) -> None:
    class Failing(DocumentProjection[dict]):
        name = "failing"
        max_attempts = 1

        @handles("OrderTipped")
        def tipped(self, document: dict | None, event: RecordedEvent) -> dict:
            raise ValueError("this is why, and the sentence is of some length")

    store.append("order-17", NewEvent("OrderTipped", 1), expected=ANY)
    stop = threading.Event()
    daemon = store.daemon([Failing])
    running = threading.Thread(target=daemon.run, args=(stop,))
    running.start()
    try:
        wait_until(lambda: [each.stopped for each in store.projection_statuses()] == [1])
    finally:
        stop.set()
        running.join()
    shown = _whole(command("projections", "list", columns=80))
    assert "thisiswhy,andthesentenceisofsomelength" in shown
    assert "PROJECTIONfailing" in shown


# Small things ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://shop:s3cr@t-word@localhost:1/db",
        "postgresql://shop:cr/t-word@localhost:1/db",
        "postgresql://shop:cr@/t-word@localhost:1/db",
        "postgresql://shop:t-word",
        "postgresql://localhost:1/db?password=t-word",
        "host=localhost port=1 password=t-word",
        "postgresql://shop:%zzt-word@localhost:1/db",
        "embedded://shop:t-word@localhost/db",
    ],
)
def test_no_part_of_a_password_is_shown(command: Command, url: str) -> None:
    done = command("store", "stats", "--url", url)

    assert done.code in (2, 3)
    assert "t-word" not in done.out + done.err


def test_a_program_takes_the_schema_of_the_environment_as_the_command_does(
    store: EventStore, url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append("a-1", NewEvent("A", 1), expected=ANY)
    monkeypatch.setenv("INDELIBLE_SCHEMA", schema)

    with EventStore.connect(url) as found:
        assert found.stats().events == 1
    with pytest.raises(SchemaMissing), EventStore.connect(url, schema="nowhere"):
        pass


def test_the_version_is_told_and_the_command_completes_itself(command: Command) -> None:
    assert command("-V").out == command("--version").out == f"indelible {__version__}\n"
    assert "--install-completion" in command("--help").out


# Stores -----------------------------------------------------------------------------------------


def test_only_init_makes_a_store(url: str, schema: str) -> None:
    missing = Command(url, f"{schema}_none")

    refused = missing("store", "migrate")

    assert (refused.code, refused.out) == (4, "")
    assert f"indelible store init --schema {schema}_none" in refused.err
    assert Command(url, schema)("store", "migrate").out.endswith("is up to date\n")


def test_migrate_brings_an_older_store_up_to_date(
    command: Command, connection: psycopg.Connection, url: str, schema: str
) -> None:
    connection.execute(f"UPDATE {schema}.function_sets SET number = number - 1")
    with pytest.raises(SchemaOutdated):
        EventStore.connect(url, schema=schema)

    assert command("store", "migrate").out == f"applied functions {FUNCTION_SET}\n"

    sets = connection.execute(f"SELECT max(number) FROM {schema}.function_sets").fetchone()
    assert sets == (FUNCTION_SET,)


def test_a_store_is_deleted_only_if_that_is_meant(
    command: Command, store: EventStore, url: str, schema: str
) -> None:
    store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)

    refused = command("store", "reset", "--yes")
    asked = command("store", "reset", "--force")

    assert (refused.code, asked.code) == (2, 2)
    assert "is not a local embedded store" in refused.err
    assert f"delete the store in schema {schema}" in asked.err
    assert store.head() == 1
    done = command("store", "reset", "--force", "--yes")
    assert done.code == 0, done.err
    assert done.out.startswith(f"the store in schema {schema} is deleted\napplied 0001")
    with EventStore.connect(url, schema=schema) as emptied:
        assert emptied.head() == 0


def test_another_application_s_schema_is_not_deleted(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    other = f"{schema}_other"
    connection.execute(f"CREATE SCHEMA {other} CREATE TABLE migrations (id integer)")
    try:
        refused = Command(url, other)("store", "reset", "--force", "--yes")

        assert refused.code == 4, refused.err
        assert "deleted" not in refused.out
        assert connection.execute(f"SELECT count(*) FROM {other}.migrations").fetchone() == (0,)
    finally:
        connection.execute(f"DROP SCHEMA {other} CASCADE")


def test_an_export_is_what_import_takes(command: Command, url: str, schema: str) -> None:
    command("append", "order-1", "OrderTipped", "1", "-e", "any")
    command("streams", "close", "order-1", "-e", "0", "--reason", "done")

    exported = command("store", "export")

    assert exported.out == command("log", "--json").out
    command("store", "reset", "--force", "--yes")
    assert command("store", "import", "-", given=exported.out.encode()).code == 0
    (stream,) = command("streams", "show", "order-1", "--json").lines()
    assert stream["changes"][0]["reason"] == "done"


def test_an_event_is_shown_whole(command: Command) -> None:
    command("append", "order-1", "OrderTipped", '{"note": "' + "x" * 200 + '"}', "-e", "any")

    shown = command("events", "show", "1", columns=80)

    assert "x" * 200 in re.sub(r"\s", "", shown.out)
    (event,) = command("events", "show", "1", "--json").lines()
    (logged,) = command("log", "--json").lines()
    assert {**logged, "life": None} == {**event, "life": None}
    assert command("events", "show", "2").code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("log", "--limit", "-3"), "--limit"),
        (("read", "order-1", "--from-version", "-1"), "--from-version"),
        (("groups", "create", "mails", "--max-attempts", "0"), "--max-attempts"),
    ],
)
def test_an_error_names_the_option_as_typed_and_the_help(
    command: Command, arguments: tuple[str, ...], told: str
) -> None:
    done = command(*arguments)

    assert done.code == 2
    assert done.err.startswith(f"indelible: {told} ")
    names = [name for name in arguments if name.isalpha() and name != "mails"]
    assert f"See indelible {' '.join(names)} --help" in done.err


def test_wrong_usage_points_to_the_help_of_the_command(command: Command) -> None:
    assert "See indelible log --help" in command("log", "--bogus").err
    assert "See indelible groups --help" in command("groups", "creat").err


# Empty results, and counts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("log", "no events match"),
        ("log --type Nothing", "no events match"),
        ("read order-1 --from-version 7", "no events of stream order-1 match"),
        ("streams list --prefix nothing", "no streams match"),
        ("types list", "no event types"),
        ("groups list", "no groups"),
        ("groups parked mails", "group mails has no parked events"),
        ("groups parked mails --stream order-1", "group mails has no parked events of order-1"),
        ("projections list", "no projections"),
        ("store export", "no events"),
    ],
)
def test_an_empty_result_says_so_on_standard_error(
    command: Command, store: EventStore, arguments: str, told: str
) -> None:
    if arguments.startswith("read"):
        store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)
    if "mails" in arguments:
        store.group("mails").create()

    for form in ([], ["--json"]) if arguments != "store export" else ([],):
        done = command(*arguments.split(), *form)
        assert (done.code, done.out, done.err) == (0, "", f"{told}\n")


def test_an_empty_store_has_no_streams(command: Command) -> None:
    for form in ([], ["--json"]):
        done = command("streams", "list", *form)
        assert (done.code, done.out, done.err) == (0, "", "no streams\n")


def test_a_count_has_the_number_of_its_noun(command: Command) -> None:
    line = b'{"stream":"a-1","type":"A","data":1}\n'
    for count, told in ((1, "1 event"), (2, "2 events")):
        assert command("append", "-e", "any", "-f", "-", given=count * line).out == (
            f"{told} appended\n"
        )
        checked = command("store", "import", "-", "--check", "--source", "x", given=count * line)
        assert checked.out.startswith(f"{told} can be imported;")
    command("groups", "create", "mails", "--max-attempts", "1")
    shown = command("groups", "show", "mails").out
    assert "retries        1 attempt, first" in shown
    assert "lag            3 events," in shown


# Following ---------------------------------------------------------------------------------------


def _numbered(store: EventStore, count: int) -> None:
    store.append("a-1", [NewEvent("A", number) for number in range(1, count + 1)], expected=ANY)


def test_following_shows_the_last_ten_events_first(command: Command, store: EventStore) -> None:
    _numbered(store, 12)

    done = command("log", "-f", "-n", "10", "--json")
    assert [event["data"] for event in done.lines()] == list(range(3, 13))
    last = command("log", "-f", "--last", "2", "-n", "2", "--json")
    assert [event["data"] for event in last.lines()] == [11, 12]
    few = command("log", "-f", "--last", "99", "-n", "12", "--json")
    assert [event["data"] for event in few.lines()] == list(range(1, 13))
    filtered = command("log", "-f", "--last", "1", "-n", "1", "--json", "--type", "A")
    assert [event["data"] for event in filtered.lines()] == [12]


@pytest.mark.parametrize("last", [0, 1])
def test_following_goes_on_after_the_events_it_has_shown(
    store: EventStore, url: str, schema: str, last: int
) -> None:
    _numbered(store, 2)
    follower = subprocess.Popen(
        [
            *(sys.executable, "-m", "indelible", "log", "-f", "--json"),
            *("--last", str(last), "--limit", "3"),
        ],
        env={**os.environ, "INDELIBLE_URL": url, "INDELIBLE_SCHEMA": schema},
        stdout=subprocess.PIPE,
        text=True,
    )

    def append_until_it_ends() -> bool:
        store.append("a-1", NewEvent("A", store.stats().events + 1), expected=ANY)
        return follower.poll() is not None

    try:
        wait_until(append_until_it_ends, 120)
        assert follower.stdout is not None
        shown = [json.loads(line)["data"] for line in follower.stdout]
    finally:
        follower.kill()
        follower.communicate()
    assert shown == list(range(shown[0], shown[0] + 3))
    # Of the two events from before at most the last is shown.
    assert shown[0] >= 3 - last


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("log --last 3", "--last needs --follow, and excludes --after"),
        ("log -f --last 3 --after 1", "--last needs --follow, and excludes --after"),
        ("log -f --last -1", "--last"),
    ],
)
def test_last_needs_follow_and_a_number_from_0_on(
    command: Command, arguments: str, told: str
) -> None:
    _is_told(command(*arguments.split()), told, "See indelible log --help")


# Waiting -----------------------------------------------------------------------------------------


def test_a_group_is_waited_for(command: Command, store: EventStore) -> None:
    _numbered(store, 2)
    group = store.group("mails")
    group.create()

    late = command("groups", "wait", "mails", "--timeout", "0.1")
    assert (late.code, late.out) == (1, "")
    assert "'mails' is at 0 and did not reach position 2 in 0.1 s" in late.err
    assert command("groups", "wait", "mails", "--position", "0").out == (
        "group mails is at position 0\n"
    )
    with group.consume() as consumer:
        for _ in range(2):
            event = consumer.take(timeout=20)
            assert event is not None
            event.ack()
    done = command("groups", "wait", "mails")
    assert (done.code, done.out, done.err) == (0, "group mails is at position 2\n", "")
    assert command("groups", "wait", "mails", "--position", "3", "--timeout", "0").code == 1
    assert command("groups", "wait", "mails", "--position", "-1").code == 2
    missing = command("groups", "wait", "nobody")
    assert (missing.code, "'nobody'" in missing.err) == (1, True)


def test_a_projection_is_waited_for(command: Command, store: EventStore) -> None:
    class Counted(DocumentProjection[dict]):
        name = "counted"

        @handles("A")
        def count(self, document: dict | None, event: RecordedEvent) -> dict:
            return {"number": event.data}

    missing = command("projections", "wait", "counted")
    assert (missing.code, "'counted'" in missing.err) == (1, True)
    store.catch_up(Counted)
    _numbered(store, 2)
    late = command("projections", "wait", "counted", "--timeout", "0.1")
    assert (late.code, "did not reach position 2" in late.err) == (1, True)
    store.catch_up(Counted)
    done = command("projections", "wait", "counted")
    assert (done.code, done.out) == (0, "projection counted is at position 2\n")
    # A group is no projection.
    store.group("mails").create()
    assert command("projections", "wait", "mails").code == 1


# Stores beside other tables ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TABLE {store}.own AS SELECT 1 AS number", "{store}.own"),
        ("CREATE SEQUENCE {store}.own", "{store}.own"),
        ("CREATE VIEW {other}.own AS SELECT position FROM {store}.events", "{other}.own"),
        (
            "CREATE TABLE {other}.own (stream_id bigint REFERENCES {store}.streams)",
            "own_stream_id_fkey of {other}.own",
        ),
    ],
    ids=["table", "sequence", "view", "foreign key"],
)
def test_a_reset_that_would_drop_what_is_not_the_store_s_deletes_nothing(
    command: Command,
    store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    statement: str,
    named: str,
) -> None:
    _numbered(store, 2)
    store.group("mails").create()
    names = {"store": schema, "other": f"{schema}_other"}
    connection.execute(f"CREATE SCHEMA {names['other']}")
    try:
        connection.execute(statement.format(**names))

        refused = command("store", "reset", "--force", "--yes")

        assert (refused.code, refused.out) == (4, "")
        assert f"dropped with it: {named.format(**names)}. Drop it, or move it" in refused.err
        assert (store.head(), len(store.groups())) == (2, 1)
    finally:
        connection.execute(f"ALTER TABLE IF EXISTS {schema}.own SET SCHEMA {names['other']}")
        connection.execute(f"DROP SCHEMA {names['other']} CASCADE")
    assert command("store", "reset", "--force", "--yes").code == 0


def test_a_reset_takes_the_documents_of_projections_with_it(
    command: Command, store: EventStore, url: str, schema: str
) -> None:
    class Counted(DocumentProjection[dict]):
        name = "counted"
        indexes = ("number",)

        @handles("A")
        def count(self, document: dict | None, event: RecordedEvent) -> dict:
            return {"number": event.data}

    _numbered(store, 2)
    store.catch_up(Counted)

    assert command("store", "reset", "--force", "--yes").code == 0
    with EventStore.connect(url, schema=schema) as emptied:
        assert (emptied.head(), emptied.projections()) == (0, [])


def test_init_warns_if_the_role_creates_its_tables_in_the_store(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    role = f"{schema}_role"
    connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN")
    try:
        as_role = Command(make_conninfo(url, user=role), role)
        warned = as_role("store", "init")
        assert warned.code == 0
        assert warned.err.startswith(f"warning: schema {role} comes first in the search_path of")
        advised = re.search(r"ALTER ROLE .*", warned.err)
        assert advised is not None
        connection.execute(advised.group())
        again = as_role("store", "init")
        assert (again.code, again.err) == (0, "")
    finally:
        connection.execute(f"DROP SCHEMA IF EXISTS {role} CASCADE")
        connection.execute(f"DROP ROLE {role}")
    assert Command(url, schema)("store", "init").err == ""
