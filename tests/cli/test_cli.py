"""The command line, started as a shell starts it."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import zstandard

from indelible.postgres.migrations import FUNCTION_SET, migrations
from tests.support.command import Command
from tests.support.waiting import wait_until

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-c", "from indelible.cli import main; main()"]


@pytest.fixture
def run(server_url: str, schema: str) -> Run:
    """Runs `indelible` on a schema that holds no store yet."""

    def indelible(
        *arguments: str, given: str = "", at: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = Command(server_url, schema)(*arguments, given=given.encode(), at=at)
        return subprocess.CompletedProcess(arguments, done.code, done.out, done.err)

    return indelible


@pytest.fixture
def made(run: Run) -> Run:
    """The same on a schema with a fresh store."""
    assert run("store", "init").returncode == 0
    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


REGISTRY = """
from dataclasses import dataclass
from indelible import App, Upcaster

def priced(data):
    return {"price": data["cents"] / 100}

@dataclass
class Ordered:
    event_upcasters = (Upcaster("Bought", priced),)
    price: float

EVENTS = [Ordered, Upcaster("Seen", into=())]
app = App("shop", events=EVENTS)
"""


def test_types_are_listed_and_checked(made: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(REGISTRY, "utf-8")
    for event_type, data in [
        ("Ordered", '{"price": 2}'),
        ("Bought", '{"cents": 250}'),
        ("Seen", "{}"),
        ("Bought", '{"cents": 300}'),
    ]:
        made("append", "order-1", event_type, data, "--expected", "any")

    bare = [line.split()[:2] for line in made("types", "list").stdout.splitlines()]
    assert bare == [["TYPE", "EVENTS"], ["Bought", "2"], ["Ordered", "1"], ["Seen", "1"]]
    told = made("types", "list", "--events", "shop:app", at=tmp_path).stdout
    assert re.search(r"Bought +2 .* read as another +Bought -> Ordered by priced", told)
    assert re.search(r"Ordered +1 .* yes", told)
    assert re.search(r"Seen +1 .* read as another +Seen -> nothing", told)
    (ordered,) = [
        line
        for line in lines(made("types", "list", "--events", "shop:EVENTS", "--json", at=tmp_path))
        if line["type"] == "Ordered"
    ]
    assert (ordered["first_position"], ordered["is_registered"]) == ("1", True)

    checked = made("types", "check", "shop:EVENTS", at=tmp_path)
    assert (checked.returncode, checked.stdout) == (
        0,
        "3 types can be read (4 events decoded)\n",
    )
    for event_type, data in [("Bought", "{}"), ("Lost", "{}"), ("Lost", "{}")]:
        made("append", "order-2", event_type, data, "--expected", "any")
    failed = made("types", "check", "shop:EVENTS", at=tmp_path)
    assert failed.returncode == 1
    assert "Bought: 1 of 3 events cannot be decoded (3 in the store)" in failed.stdout
    assert "the upcaster Bought -> Ordered by priced failed: KeyError: 'cents'" in failed.stdout
    assert "Lost: 2 of 2" in failed.stdout
    assert "    at order-2 1, order-2 2\n2 of 4 types cannot be read\n" in failed.stdout

    assert made("types", "check", "shop:NONE", at=tmp_path).returncode == 2
    assert made("types", "check", "nowhere:EVENTS").returncode == 2


def test_types_of_nothing_are_not_as_they_should_be(run: Run, schema: str, tmp_path: Path) -> None:
    """In CI, a wrong URL must not look like a store that can be read."""
    (tmp_path / "shop.py").write_text(REGISTRY, "utf-8")
    check = ("types", "check", "shop:EVENTS")

    missing = run(*check, at=tmp_path)
    folder = tmp_path / "postgresql"
    not_made = run(*check, "--url", f"embedded://{folder}", at=tmp_path)
    run("store", "init")
    empty = run(*check, at=tmp_path)

    for done, reason, place in (
        (missing, "no store exists", r".+"),
        (not_made, "no store exists", f"embedded://{folder}"),
        (empty, "the store has no events", r".+"),
    ):
        assert done.returncode == 1, done.stderr
        told = rf"nothing was checked: {reason} \(schema {schema} of {place}\)\n"
        assert re.fullmatch(told, done.stdout)
    assert not folder.exists()


def test_init_makes_a_store_and_a_second_one_finds_it(run: Run, schema: str) -> None:
    applied = "".join(f"applied {m.version:04} {m.name}\n" for m in migrations())
    assert run("store", "init").stdout == applied + f"applied functions {FUNCTION_SET}\n"
    assert run("store", "init").stdout == f"the store in schema {schema} is up to date\n"


def test_an_event_is_appended_and_read(made: Run) -> None:
    done = made("append", "order-1", "OrderTipped", '{"amount": 2}', "--expected", "no-stream")
    assert done.stdout == "order-1 is at version 0, position 1\n"

    (event,) = lines(made("read", "order-1", "--json"))
    assert (event["stream"], event["type"], event["channel"]) == ("order-1", "OrderTipped", "order")
    assert event["data"] == {"amount": 2}
    # Some JSON parsers store numbers with 53 bits.
    assert (event["position"], event["version"]) == ("1", "0")


def test_a_table_is_for_people(made: Run) -> None:
    made("append", "order-1", "OrderTipped", '{"amount": 2}', "-e", "any")

    head, row = made("log").stdout.splitlines()
    assert head.split() == ["POSITION", "RECORDED", "(UTC)", "STREAM", "VERSION", "TYPE", "DATA"]
    assert row.split()[0] == "1"
    assert row.endswith('OrderTipped  {"amount":2}')
    assert "order-1" in made("streams", "list").stdout
    assert "head 1; last assigned position 1; size" in made("store", "stats").stdout


def test_stored_text_does_not_reach_the_terminal_as_commands(made: Run) -> None:
    made("append", "order-\x9b31m", "Type\x85", '"\\u001b[2J\\u009b2J"', "-e", "any")

    shown = (
        made("log").stdout + made("read", "order-\x9b31m").stdout + made("streams", "list").stdout
    )
    assert not set(shown) & {"\x1b", "\x9b", "\x85"}


def test_events_of_a_pipe_follow_on_in_their_streams(made: Run) -> None:
    given = "".join(
        json.dumps({"stream": f"s-{n % 2}", "type": "Counted", "data": n, "tags": [f"n:{n}"]})
        + "\n"
        for n in range(6)
    )

    done = made("append", "--file", "-", "--expected", "no-stream", given=given + "\n\n")

    assert done.stdout == "6 events appended\n"
    assert [event["data"] for event in lines(made("read", "s-1", "--json"))] == [1, 3, 5]
    assert [event["data"] for event in lines(made("log", "--json", "--tag", "n:4"))] == [4]


def test_a_file_with_ids_can_be_run_again_from_the_beginning(made: Run, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text(
        '{"stream":"s-1","type":"A","id":"018f0000-0000-7000-8000-000000000001"}\n'
        '{"stream":"s-1","type":"B","id":"018f0000-0000-7000-8000-000000000002"}\n'
    )

    for _ in range(2):
        assert made("append", "-f", str(file), "-e", "no-stream").returncode == 0
    assert len(lines(made("read", "s-1", "--json"))) == 2


def test_a_file_that_goes_wrong_in_the_middle_says_where(made: Run) -> None:
    given = '{"stream":"s-1","type":"A"}\n{"stream":"s-1","typ":"B"}\n'

    done = made("append", "-f", "-", "-e", "any", given=given)

    assert done.returncode == 2
    assert done.stderr.startswith("indelible: line 2, 1 before it appended: ")
    assert "`typ`" in done.stderr
    assert len(lines(made("read", "s-1", "--json"))) == 1
    done = made("append", "-f", "-", "-e", "no-stream", given=given)
    assert done.stderr.startswith("indelible: line 1: ")
    assert "Nothing of this append was stored" in done.stderr


def test_the_log_is_filtered(made: Run) -> None:
    for stream, kind in [("a-1", "A"), ("a-2", "B"), ("b-1", "A")]:
        made("append", stream, kind, "-e", "any")

    def found(*arguments: str) -> list[str]:
        return [event["stream"] for event in lines(made("log", "--json", *arguments))]

    assert found("--type", "A") == ["a-1", "b-1"]
    assert found("--channel", "a") == ["a-1", "a-2"]
    assert found("--stream-prefix", "a-2") == ["a-2"]
    assert found("--stream", "a-2") == ["a-2"]
    assert found("--stream", "a-") == []
    assert found("--after", "1", "--limit", "1") == ["a-2"]
    assert found("--backwards", "-n", "2") == ["b-1", "a-2"]


@pytest.mark.parametrize(
    ("code", "arguments", "told"),
    [
        (1, ["append", "a-1", "A", "--expected", "7"], "expected at 7"),
        (1, ["read", "nowhere-1"], "does not exist"),
        (2, ["append", "a-1", "A"], "--expected"),
        (2, ["append", "a-1", "A", "{", "-e", "any"], "JSON"),
        (2, ["append", "a-1", "A", "-e", "soon"], "soon"),
        (2, ["append", "a-1", "A", "-e", "-2"], "-2"),
        (2, ["append", "a-1", "A", "-e", "any", "--id", "x"], "--id"),
        (2, ["append", "a-1", "A", "-e", "any", "--valid-at", "2026-01-01T00:00"], "time zone"),
        (2, ["append", "a-1", "A", "-e", "any", "--valid-at", "soon"], "ISO 8601"),
        (2, ["append", "-e", "any"], "STREAM"),
        (2, ["append", "a-1", "A", "-e", "any", "-f", "x"], "exclude each other"),
        (2, ["append", "-e", "any", "-f", "/nowhere/x"], "/nowhere/x"),
        (2, ["log", "--limit", "-1"], "limit"),
        (2, ["unknown"], "unknown"),
        (3, ["store", "stats", "--url", "postgresql://u:secret@127.0.0.1:1/x"], "127.0.0.1:1/x"),
        (4, ["store", "stats", "--schema", "nowhere"], "indelible store init --schema nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_line_and_an_exit_code(
    made: Run, code: int, arguments: list[str], told: str
) -> None:
    done = made(*arguments)

    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("indelible: ")
    assert done.stderr.count("\n") == 1
    assert told in done.stderr
    assert "secret" not in done.stderr


def test_a_reader_that_has_had_enough_is_no_error(made: Run, server_url: str, schema: str) -> None:
    given = "".join(
        json.dumps({"stream": "s-1", "type": "Counted", "data": "x" * 500}) + "\n"
        for _ in range(300)
    )
    made("append", "-f", "-", "-e", "any", given=given)

    with subprocess.Popen(
        [*COMMAND, "log", "--json"],
        env={**os.environ, "INDELIBLE_URL": server_url, "INDELIBLE_SCHEMA": schema},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_interrupt_ends_quietly(made: Run, server_url: str, schema: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "append", "-f", "-", "-e", "any"],
        env={**os.environ, "INDELIBLE_URL": server_url, "INDELIBLE_SCHEMA": schema},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write('{"stream":"s-1","type":"A"}\n')
        process.stdin.flush()
        while not lines(
            made("streams", "list", "--json")
        ):  # wait until the command waits for the next line
            pass
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        process.stdin.close()
    assert process.returncode == 130


@pytest.mark.parametrize(
    "command",
    ["store init", "append", "read", "log", "streams list", "store stats", "events show", "demo"],
)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    done = run(*command.split(), "--help")

    assert done.returncode == 0
    assert "--url" in done.stdout
    assert "--schema" in done.stdout


# Follow ----------------------------------------------------------------------------------------


def test_the_log_is_followed_until_interrupted(made: Run, server_url: str, schema: str) -> None:
    made("append", "order-1", "Before", "1", "-e", "any")
    follower = subprocess.Popen(
        [
            *COMMAND,
            "log",
            "--follow",
            "--after",
            "0",
            "--json",
            "--type",
            "Before",
            "--type",
            "Now",
        ],
        env={**os.environ, "INDELIBLE_URL": server_url, "INDELIBLE_SCHEMA": schema},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    try:
        assert json.loads(follower.stdout.readline())["type"] == "Before"
        made("append", "order-1", "Other", "1", "-e", "any")
        made("append", "order-1", "Now", "1", "-e", "any")
        assert json.loads(follower.stdout.readline())["type"] == "Now"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 130
    finally:
        follower.kill()
        follower.communicate()


def test_following_ends_at_a_limit_and_goes_forwards_only(made: Run) -> None:
    made("append", "order-1", "Before", "1", "-e", "any")
    assert made("log", "-f", "--after", "0", "-n", "1").stdout.count("order-1") == 1
    assert made("log", "-f", "--backwards").returncode == 2


# Groups ----------------------------------------------------------------------------------------


def test_a_group_from_its_creation_to_its_end(made: Run) -> None:
    made("append", "order-1", "OrderTipped", "1", "-e", "any")
    assert made("groups", "create", "mails", "--type", "OrderTipped").stdout == (
        "group mails created\n"
    )
    refused = made("groups", "create", "mails", "--type", "OrderTipped", "--max-attempts", "2")
    assert refused.returncode == 1
    assert "indelible groups create --update" in refused.stderr
    change = ("groups", "create", "mails", "--type", "OrderTipped", "--update")
    assert made(*change, "--max-attempts", "2").stdout == "group mails has these settings\n"
    assert made(*change, "--partition-by", "tag:order").returncode == 2
    (row,) = lines(made("groups", "list", "--json"))
    assert (row["name"], row["checkpoint"], row["lag_events"]) == ("mails", "0", 1)
    shown = made("groups", "show", "mails").stdout
    assert "type OrderTipped" in shown
    assert "lag            1 event," in shown
    assert "2 attempts" in shown
    heads, values = made("groups", "list").stdout.splitlines()
    assert heads.split()[:2] == ["GROUP", "CHECKPOINT"]
    assert values.split()[0] == "mails"

    refused = made("groups", "reset", "mails", "--to", "head")
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert made("groups", "reset", "mails", "--to", "head", "-y").stdout == (
        "group mails continues after position 1\n"
    )
    assert made("groups", "reset", "mails", "--to", "2020-01-01", "-y").stdout.endswith(" 0\n")
    assert made("groups", "reset", "mails", "--to", "soon", "-y").returncode == 2
    assert made("groups", "delete", "mails", "-y").stdout == "group mails deleted\n"
    assert made("groups", "show", "mails").returncode == 1


def test_a_group_that_waits_for_valid_times_is_told_as_such(made: Run) -> None:
    made("append", "menu-1", "Priced", "9", "-e", "any", "--valid-at", "2200-11-29T00:00Z")
    made("groups", "create", "prices", "--deliver-when-valid")
    made("groups", "create", "mails")
    rows = {row["name"]: row for row in lines(made("groups", "list", "--json"))}
    assert [
        (rows[name]["deliver_when_valid"], rows[name]["waiting"]) for name in ("prices", "mails")
    ] == [
        (True, 1),
        (False, 0),
    ]
    assert [row.split()[-1] for row in made("groups", "list").stdout.splitlines()] == [
        "WAITING",
        "-",
        "1",
    ]
    assert "valid times    1 event not yet due" in made("groups", "show", "prices").stdout
    assert "valid times    ignored" in made("groups", "show", "mails").stdout


_APPLICATION = """
import sys
from indelible import {kind}, ANY, DocumentProjection, NewEvent, handles

class Tips(DocumentProjection[dict]):
    name = "tips"
    max_attempts = 1
    on_error = "park"

    @handles("OrderTipped")
    def tipped(self, document, event):
        if event.data == 2:
            raise ValueError("two")
        return {{"last": event.data}}

app = {kind}("shop", projections=[Tips])
app.group("shop", max_attempts=1)

@app.on("OrderTipped")
{define} thank(event):
    if event.data == "no":
        raise ValueError("no")
    {with_} event.transaction() as transaction:
        {call}transaction.append("thanks-1", NewEvent("Thanked", event.data), expected=ANY)

@app.on("OrderTipped", group="audit")
{define} audit(event):
    pass
"""


def statuses(made: Run) -> list[dict]:
    return lines(made("projections", "list", "--json"))


@pytest.mark.parametrize("kind", ["App", "AsyncApp"])
def test_an_application_is_run_and_stopped(
    made: Run,
    server_url: str,
    schema: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_async = kind == "AsyncApp"
    text = _APPLICATION.format(
        kind=kind,
        define="async def" if is_async else "def",
        with_="async with" if is_async else "with",
        call="await " if is_async else "",
    )
    (tmp_path / "shop.py").write_text(text, "utf-8")
    for number in range(3):
        made("append", f"order-{number}", "OrderTipped", str(number), "-e", "any")
    made("append", "order-9", "OrderTipped", '"no"', "-e", "any")
    worker = subprocess.Popen(
        [*COMMAND, "run", "shop:app", "--log-format", "json", "--report-interval", "0.2"],
        env={**os.environ, "INDELIBLE_URL": server_url, "INDELIBLE_SCHEMA": schema},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    said = []
    waited_for = {("shop", 3), ("audit", 4), ("tips", 1)}
    try:
        while waited_for:
            said.append(json.loads(worker.stderr.readline()))
            waited_for.discard((said[-1].get("group"), said[-1].get("handled")))
            waited_for.discard((said[-1].get("projection"), said[-1].get("parked")))
        wait_until(lambda: [row["lag_events"] for row in statuses(made)] == [0])
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.communicate()
    began = said[0]
    assert (began["message"], began["schema"]) == ("running", schema)
    assert (began["groups"], began["projections"]) == ("shop, audit", "tips")
    assert "@" not in began["store"]
    stands = [
        (line["group"], line["lag_events"]) for line in said if line["message"] == "group status"
    ]
    assert stands[:2] == [("shop", 4), ("audit", 4)]
    (tips,) = statuses(made)
    assert (tips["name"], tips["state"], tips["workers"]) == ("tips", "serving", 0)
    assert (tips["parked"], tips["errors"], tips["stopped"]) == (1, 0, 0)
    if not is_async:
        heads, values = made("projections", "list").stdout.splitlines()
        assert heads.split()[:5] == ["PROJECTION", "VERSION", "LIFECYCLE", "STATE", "CHECKPOINT"]
        assert values.split()[:4] == ["tips", "1", "async", "serving"]
        rebuilt = made("projections", "rebuild", "tips", "--app", "shop", at=tmp_path)
        assert rebuilt.stdout == "projection tips version 1 is rebuilt and serving\n"
        told = "1 event parked; list with indelible projections parked tips\n"
        assert rebuilt.stderr.endswith(told)
        assert "ValueError: two" in made("projections", "parked", "tips").stdout
        assert made("projections", "discard", "tips", "--all", "-y").stdout == "1 event discarded\n"
        again = made("projections", "discard", "tips", "--position", "9", "-y")
        assert (again.returncode, again.stdout) == (1, "")
        assert "has no parked event at position 9" in again.stderr
        assert made("projections", "restart", "tips").stdout == "0 partitions restarted\n"
        assert made("projections", "drop", "tips", "--version", "1", "-y").returncode == 0
        assert made("projections", "restart", "tips").returncode == 1

    (failure,) = [line for line in said if line["level"] == "ERROR" and "stream" in line]
    assert (failure["stream"], failure["attempt"]) == ("order-9", 1)
    assert "ValueError: no" in failure["error"]

    assert len(lines(made("read", "thanks-1", "--json"))) == 3
    assert [row["workers"] for row in lines(made("groups", "list", "--json"))] == [[], []]
    (parked,) = lines(made("groups", "parked", "shop", "--json"))
    assert (parked["stream"], parked["error"]) == ("order-9", "ValueError: no")
    assert "order-9" in made("groups", "parked", "shop").stdout
    assert made("groups", "replay", "shop").returncode == 2
    assert made("groups", "replay", "shop", "--stream", "order-9").stdout.startswith("1 event")
    assert made("groups", "discard", "shop", "--all", "-y").stdout == "0 events discarded\n"
    for verb, yes in (("replay", ()), ("discard", ("-y",))):
        refused = made("groups", verb, "shop", "--stream", "order-9", *yes)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "group 'shop' has no such parked event" in refused.stderr


@pytest.mark.parametrize(
    ("application", "says"),
    [
        ("shop", "write module:app"),
        ("nowhere_at_all:app", "module 'nowhere_at_all' not found"),
        ("json:dumps", "is not an application"),
    ],
)
def test_what_is_no_application_is_told(made: Run, application: str, says: str) -> None:
    done = made("run", application)
    assert (done.returncode, says in done.stderr) == (2, True)


def test_the_epoch_is_told_and_renewed(made: Run) -> None:
    before = made("store", "epoch").stdout
    assert made("store", "epoch", "--renew").returncode == 2
    renewed = made("store", "epoch", "--renew", "--yes").stdout
    assert before != renewed == made("store", "epoch").stdout


def exported(made: Run) -> str:
    made("append", "order-1", "Created", '{"total": 12}', "-e", "no-stream", "--tag", "k:v")
    made("append", "order-1", "Paid", '{"by": "ann"}', "-e", "0", "--valid-at", "2020-01-01T00:00Z")
    made("append", "bill-1", "Sent", "[1, null]", "-e", "any", "--metadata", '{"x": "ü"}')
    return made("log", "--json").stdout


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_an_exported_log_is_imported_as_it_is(
    made: Run, second_schema: str, tmp_path: Path, packed: str
) -> None:
    log = exported(made)
    pack = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
    file = tmp_path / "log"  # the file name does not show the compression
    file.write_bytes(pack[packed](log.encode()))

    to = ("--schema", second_schema, "--keep-recorded-at")
    assert made("store", "import", str(file), *to).stdout == "3 events imported\n"
    assert made("log", "--json", "--schema", second_schema).stdout == log
    again = made("store", "import", str(file), *to)
    assert again.stdout == "0 events imported, 3 already stored\n"


def test_standard_input_is_imported_and_needs_a_source_where_ids_are_missing(made: Run) -> None:
    line = '{"stream": "a-1", "type": "A", "data": {}}\n'

    done = made("store", "import", "-", given=line)
    assert done.returncode == 2
    assert done.stderr.startswith("indelible: line 1: the event has no id: add one, or")
    assert made("store", "import", "-", "--source", "x", given=line).stdout == "1 event imported\n"


def test_a_check_writes_nothing_and_needs_no_database(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_text('{"stream": "a-1", "type": "A", "data": {}}\n\n{"stream": "a-1"}\n', "utf-8")

    done = run("store", "import", "--check", str(file), "--url", "postgresql://127.0.0.1:1/nowhere")
    assert done.returncode == 2
    assert "line 3: not a valid event in JSON" in done.stderr

    file.write_text('{"stream": "a-1", "type": "A", "data": {}}\n', "utf-8")
    done = run("store", "import", "--check", str(file), "--url", "postgresql://127.0.0.1:1/nowhere")
    assert done.stdout.startswith("1 event can be imported")


def test_a_refused_line_is_named_with_an_exit_code(made: Run, tmp_path: Path) -> None:
    file = tmp_path / "events"
    good = '{"stream": "a-1", "type": "A", "data": {}}\n'
    file.write_text(good + '{"stream": "a-1", "type": "A", "data": {}, "version": 7}\n', "utf-8")
    made("append", "a-1", "A", "{}", "-e", "any")

    done = made("store", "import", str(file))

    assert done.returncode == 1
    assert done.stderr.startswith("indelible: line 1: stream 'a-1' was expected at 5, but")
    assert made("store", "import", str(tmp_path / "nothing")).returncode == 2


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_a_file_that_is_cut_off_says_so(made: Run, tmp_path: Path, packed: str) -> None:
    text = "".join(
        f'{{"stream": "a-{n}", "type": "A", "data": "{n * 7919}"}}\n' for n in range(2_000)
    ).encode()
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[packed](text)
    file = tmp_path / "events"
    file.write_bytes(pack[: len(pack) // 2])

    done = made("store", "import", str(file))

    assert done.returncode == 2
    assert "is truncated or damaged" in done.stderr


def test_a_line_without_an_end_does_not_fill_the_memory(made: Run, tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_bytes(b" " * (3 * 1024 * 1024))

    done = made("store", "import", str(file))

    assert done.returncode == 2
    assert "has a line longer than 2,097,152 bytes" in done.stderr


# Times, and the life of a stream ----------------------------------------------------------------


def test_what_was_known_and_what_holds_are_read(made: Run) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    made("append", "menu-1", "Priced", "1", "-e", "any")
    made("append", "menu-1", "Priced", "2", "-e", "any", "--valid-at", ahead)
    made("append", "menu-1", "Priced", "3", "-e", "any", "--valid-at", "2020-02-02T00:00Z")

    def data(*options: str) -> list[int]:
        of_stream = [event["data"] for event in lines(made("read", "menu-1", "--json", *options))]
        of_log = [event["data"] for event in lines(made("log", "--json", *options))]
        assert of_stream == of_log
        return of_stream

    assert data("--as-of", "1 hour ago") == []
    assert data("--as-of", "2") == [1, 2]
    assert data("--as-of", "now") == [1, 2, 3]
    assert data("--valid-at", "in 1 hour") == [3, 1]
    assert data("--valid-at", "in 4 days", "--backwards", "--limit", "1") == [2]
    assert data("--as-of", "1", "--valid-at", "in 4 days") == [1]
    epoch = made("store", "epoch").stdout.strip()
    assert data("--as-of", f"2@{epoch}") == [1, 2]
    head, row = made("read", "menu-1", "--valid-at", "2020-02-02T00:00:00Z").stdout.splitlines()
    assert head.split()[:5] == ["VERSION", "RECORDED", "(UTC)", "VALID", "(UTC)"]
    assert "2020-02-02 00:00:00.000" in row


def test_a_moment_that_is_none_is_refused_with_examples(made: Run) -> None:
    for given in ("banana", "2026-13-45", ""):
        done = made("log", "--as-of", given)
        assert done.returncode == 2
        assert "last monday" in done.stderr
    done = made("log", "--follow", "--as-of", "now")
    assert (done.returncode, "--as-of" in done.stderr) == (2, True)


def test_a_stream_is_closed_reopened_archived_and_erased(made: Run) -> None:
    made("append", "order-1", "OrderTipped", '{"amount": 2}', "-e", "any")

    assert made("streams", "archive", "order-1").returncode == 1
    assert made("streams", "close", "order-1", "-e", "7").returncode == 1
    assert "closed at" in made("streams", "close", "order-1", "-e", "0", "--reason", "x").stdout
    refused = made("append", "order-1", "OrderTipped", "-e", "any")
    assert refused.returncode == 1
    assert "indelible streams reopen order-1" in refused.stderr
    assert ", open" in made("streams", "reopen", "order-1").stdout
    made("streams", "close", "order-1", "-e", "stream-exists")
    assert "archived at" in made("streams", "archive", "order-1").stdout
    asked = made("streams", "erase", "order-1", "--reason", "request 7")
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    assert "erased at" in made("streams", "erase", "order-1", "--reason", "request 7", "-y").stdout
    assert made("read", "order-1").stdout.splitlines()[1].endswith("(erased)")
    (event,) = lines(made("log", "--json"))
    assert (event["data"], event["erased"]) == (None, True)

    told = made("streams", "show", "order-1").stdout
    assert [word in told for word in ("close", "reopen", "archive", "erase", "request 7")] == (
        [True] * 5
    )
    (shown,) = lines(made("streams", "show", "order-1", "--json"))
    assert [change["operation"] for change in shown["changes"]] == [
        "close",
        "reopen",
        "close",
        "archive",
        "erase",
    ]
    assert made("streams", "show", "order-2").returncode == 1
    assert made("streams", "erase", "order-2", "--reason", "x", "-y").returncode == 1


_PROJECTIONS = """
from indelible import DocumentProjection, handles

class Tips(DocumentProjection[dict]):
    name = "tips"

    @handles("OrderTipped")
    def tipped(self, tips, event):
        return {"amount": (tips or {"amount": 0})["amount"] + event.data["amount"]}
"""


def test_a_projection_is_verified(
    made: Run, server_url: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text(_PROJECTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made("append", "order-1", "OrderTipped", '{"amount": 2}', "-e", "any")
    never = made("projections", "verify", "tips", "--app", "shop")
    assert (never.returncode, "projection 'tips' does not exist" in never.stderr) == (1, True)
    assert "(it has: tips)" in made("projections", "verify", "no", "--app", "shop").stderr

    subprocess.run(
        [
            *(sys.executable, "-c"),
            "import shop, sys; from indelible import EventStore\n"
            "with EventStore.connect(sys.argv[1], schema=sys.argv[2]) as store:\n"
            "    store.catch_up(shop.Tips)",
            *(server_url, schema),
        ],
        check=True,
    )
    done = made("projections", "verify", "tips", "--app", "shop")
    assert done.stdout == (
        "projection tips version 1: 1 event up to position 1, 1 document, none different\n"
    )

    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"UPDATE {schema}.projection_documents SET document = '{{}}'")
    done = made("projections", "verify", "tips", "--app", "shop")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].split() == ["order-1", "{}", '{"amount":2}']
    assert (
        lines_of(made("projections", "verify", "tips", "--app", "shop", "--json"))[0]["differing"]
        == 1
    )


_SALES = """
from dataclasses import dataclass
from indelible import App, DocumentProjection, Upcaster, handles

@dataclass
class Placed:
    cents: int

@dataclass
class Paid:
    cents: int

class Owed(DocumentProjection[dict]):
    name = "owed"

    @handles(Placed)
    def placed(self, document, event):
        return {"cents": (document or {"cents": 0})["cents"] + event.data.cents}

    @handles(Paid)
    def paid(self, document, event):
        return {"cents": (document or {"cents": 0})["cents"] - event.data.cents}

class OwedNow(Owed):
    name = "owed-now"
"""

_SALES_APP = """
from indelible import App, Upcaster
import sales

def split(data):
    return [("Placed", data), ("Paid", {{"cents": 2}})]

app = App(
    "sales",
    url={url!r},
    schema={schema!r},
    events=[sales.Placed, sales.Paid, Upcaster("PlacedAndPaid", split, into=("Placed", "Paid"))],
    projections=[sales.Owed],
    inline=[sales.OwedNow],
)
"""


def test_projections_are_rebuilt_and_verified_as_their_application_has_them(
    made: Run, server_url: str, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its events, its upcasters, its projections, its database and its schema."""
    (tmp_path / "sales.py").write_text(_SALES)
    (tmp_path / "shop.py").write_text(_SALES_APP.format(url=server_url, schema=schema))
    monkeypatch.chdir(tmp_path)
    for number, event_type in enumerate(("PlacedAndPaid", "Placed"), start=1):
        made("append", f"order-{number}", event_type, '{"cents": 5}', "-e", "any")

    def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: of for name, of in os.environ.items() if not name.startswith("INDELIBLE_")}
        return subprocess.run(
            [*COMMAND, "projections", *arguments, "--app", "shop:app"],
            env={**kept, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    for name in ("owed", "owed-now"):
        assert "is rebuilt and serving" in alone("rebuild", name).stdout
        assert alone("verify", name).stdout == (
            f"projection {name} version 1: 2 events up to position 2, 2 documents, none different\n"
        )
    with psycopg.connect(server_url, autocommit=True) as connection:
        select = f"SELECT document FROM {schema}.documents WHERE key = 'order-1'"
        assert connection.execute(select).fetchall() == [({"cents": 3},), ({"cents": 3},)]
    refused = alone("rebuild", "owed", "-c", "0")
    assert (
        refused.returncode,
        "concurrency must be an integer of at least 1" in refused.stderr,
    ) == (2, True)

    # The command rejects events of an inline projection, which it cannot run.
    passing = made("append", "order-3", "Placed", '{"cents": 5}', "-e", "any")
    assert (passing.returncode, "inline projection 'owed-now'" in passing.stderr) == (2, True)
    line = '{"stream": "order-3", "type": "Placed", "data": {"cents": 5}}'
    passing = made("append", "--file", "-", "-e", "any", given=line)
    assert (passing.returncode, "line 1" in passing.stderr) == (2, True)
    other = made("append", "order-3", "Seen", "-e", "any")
    assert (other.returncode, other.stderr) == (0, "")


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


TAGGED = """
from dataclasses import dataclass

@dataclass
class Subscribed:
    event_tags = ("student:{student}",)
    student: str

EVENTS = [Subscribed]
"""


def test_what_is_appended_and_imported_with_classes_has_their_tags(
    made: Run, tmp_path: Path
) -> None:
    (tmp_path / "school.py").write_text(TAGGED, "utf-8")
    file = tmp_path / "log.ndjson"
    known = ("--events", "school:EVENTS")
    line = '{"stream":"a-1","type":"Subscribed","data":{"student":%s}}\n'

    file.write_text(line % '"s1"', "utf-8")
    assert made("store", "import", str(file), *known, at=tmp_path).returncode == 0
    assert made("append", "-f", str(file), "-e", "any", *known, at=tmp_path).returncode == 0
    one = ("append", "a-1", "Subscribed", '{"student": "s1"}', "-e", "any")
    assert made(*one, *known, at=tmp_path).returncode == 0

    assert [event["tags"] for event in lines(made("log", "--json"))] == [["student:s1"]] * 3
    file.write_text(line % "1", "utf-8")
    for command in (
        (
            "store",
            "import",
        ),
        ("store", "import", "--check"),
        ("append", "-e", "any", "-f"),
    ):
        done = made(*command, str(file), *known, at=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "line 1: event 'Subscribed' cannot be stored: data.student" in done.stderr
    for wrong in (("append", "$a-1", "A", "-e", "any"), ("append", "a-1", "$A", "-e", "any")):
        done = made(*wrong)
        assert done.returncode == 2
        assert "must not begin with '$'" in done.stderr


_UNREADABLE = """
from indelible import App, Decider, Upcaster

app = App("shop", events=[Upcaster("A", into="B"), Upcaster("B", into="A")])
orders = Decider(list, lambda state, event: state, dict)
"""


def test_a_module_that_cannot_be_served_ends_the_command_with_a_sentence(
    made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no settings')")
    (tmp_path / "unreadable.py").write_text(_UNREADABLE)
    monkeypatch.chdir(tmp_path)
    for given, sentence in (
        ("nowhere", "module 'nowhere' not found"),
        ("broken", "module 'broken' cannot be imported: RuntimeError: no settings"),
        ("unreadable:orders", "'orders' in 'unreadable' is not an application"),
        ("unreadable", "upcaster"),
    ):
        done = made("serve", given, "--port", "0", at=tmp_path)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stdout == ""


def test_the_correlation_is_indexed_and_the_index_dropped_both_any_number_of_times(
    made: Run, server_url: str, schema: str
) -> None:
    indexes = ["events_correlation_index", "archived_events_correlation_index"]
    assert made("store", "index-correlation").stdout.splitlines() == [
        f"made {name}" for name in indexes
    ]
    assert made("store", "index-correlation").stdout == "the index is up to date\n"

    # An attempt that was interrupted leaves an incomplete index, which is made again.
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
            [f"{schema}.events_correlation_index"],
        )
    assert made("store", "index-correlation").stdout == f"made {indexes[0]}\n"

    dropped = made("store", "index-correlation", "--drop").stdout
    assert sorted(dropped.splitlines()) == sorted(f"dropped {name}" for name in indexes)
    assert made("store", "index-correlation", "--drop").stdout == "there is no index\n"


def test_an_event_with_a_long_correlation_is_appended_beside_the_index(made: Run) -> None:
    made("store", "index-correlation")
    metadata = json.dumps({"correlation_id": os.urandom(50_000).hex()})
    done = made("append", "order-1", "Placed", "{}", "-e", "any", "--metadata", metadata)
    assert (done.returncode, done.stderr) == (0, "")
