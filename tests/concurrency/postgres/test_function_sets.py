"""A rolling deployment: libraries with older and newer function sets start in turns, under load."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import psycopg

from indelible import ANY, EventStore, NewEvent
from indelible.postgres.migrations import FUNCTION_SET

SECONDS = 15

PROGRAM = """
import sys
from indelible import ANY, EventStore, NewEvent
url, schema, stream = sys.argv[1:]
with EventStore.connect(url, schema=schema, migrate=True) as store:
    before = store.head()
    events = [NewEvent("Started", {"number": number}) for number in range(10)]
    for event in events:
        store.append(stream, event, expected=ANY)
    assert [event.data for event in store.read(stream)] == [event.data for event in events]
    assert sum(event.stream == stream for event in store.read_all(after=before)) == 10
"""


def library(folder: Path, number: int) -> Path:
    """A copy of the library with a set of functions of its own: one altered, one more; now and
    then it replaces views and triggers, too."""
    package = folder / str(number) / "indelible"
    shutil.copytree(str(files("indelible")), package, ignore=shutil.ignore_patterns("__pycache__"))
    if number == FUNCTION_SET:  # the set of the store
        return package.parent
    module = package / "postgres" / "migrations.py"
    text, found = re.subn(
        r"(?m)^FUNCTION_SET = \d+$", f"FUNCTION_SET = {number}", module.read_text()
    )
    assert found == 1
    module.write_text(text)
    functions = package / "postgres" / "schema" / "functions"
    text, found = re.subn(
        r"(REPLACE FUNCTION indelible\.head\(\)(?s:.*?)BEGIN\n)",
        rf"\1    -- of set {number}\n",
        (functions / "head.sql").read_text(),
    )
    assert found == 1
    (functions / "head.sql").write_text(
        f"{text}\nCREATE OR REPLACE FUNCTION indelible.of_set_{number}() RETURNS integer"
        f" LANGUAGE sql RETURN {number};\n"
    )
    for name, turns in (("views", 3), ("immutability", 4)):
        if number % turns == 0:
            with (functions / f"{name}.sql").open("a") as file:
                file.write(f"-- of set {number}\n")
    return package.parent


def test_libraries_with_older_and_newer_functions_start_in_turns(
    url: str, schema: str, tmp_path: Path
) -> None:
    ended = threading.Event()
    appended: list[int] = []

    def until_the_end(work: Callable[[], None]) -> None:
        try:
            while not ended.is_set():
                work()
        finally:
            ended.set()

    def append(store: EventStore, stream: str) -> None:
        appended.append(store.append(stream, NewEvent("Happened", {}), expected=ANY).position)

    def start() -> None:
        """This library, which is the oldest."""
        EventStore.connect(url, schema=schema, migrate=True).close()

    sets: list[tuple[int, int]] = []

    def look(connection: psycopg.Connection) -> None:
        number, text = connection.execute(
            f"SELECT (SELECT max(number) FROM {schema}.function_sets), prosrc"
            f" FROM pg_proc WHERE oid = '{schema}.head()'::regprocedure"
        ).fetchone() or (0, "")
        noted = re.search(r"of set (\d+)", text)
        sets.append((number, int(noted[1]) if noted else FUNCTION_SET))
        time.sleep(0.01)

    def run(folder: Path, stream: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, url, schema, stream],
            env={"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    with (
        EventStore.connect(url, schema=schema) as store,
        psycopg.connect(url, autocommit=True) as connection,
        ThreadPoolExecutor(8) as threads,
    ):
        load = [
            threads.submit(until_the_end, lambda: append(store, "load-1")),
            threads.submit(until_the_end, lambda: append(store, "load-2")),
            threads.submit(until_the_end, lambda: list(store.read_all(limit=500))),
            threads.submit(until_the_end, start),
            threads.submit(until_the_end, lambda: look(connection)),
        ]
        number = FUNCTION_SET
        older = library(tmp_path, number)
        deadline = time.monotonic() + SECONDS
        try:
            while time.monotonic() < deadline or number < FUNCTION_SET + 4:
                number += 1
                newer = library(tmp_path, number)
                turn = [
                    threads.submit(run, newer, f"newer-{number}"),
                    threads.submit(run, older, f"older-{number}"),
                ]
                for started in turn:
                    started.result()
                assert not ended.is_set()
                older = newer
        finally:
            ended.set()
        for worked in load:
            worked.result()
        positions = [event.position for event in store.read_all() if event.type == "Happened"]

    assert positions == sorted(appended)
    assert all(noted == applied for noted, applied in sets)
    assert [noted for noted, _ in sets] == sorted(noted for noted, _ in sets)
    with psycopg.connect(url) as connection:
        applied = connection.execute(
            f"SELECT array_agg(number ORDER BY applied_at) FROM {schema}.function_sets"
        ).fetchone()
    assert applied == ([*range(FUNCTION_SET, number + 1)],)
