"""One client, one event per append: Indelible, the `eventsourcing` library, and the limits.

The limits are the same call through pgbench, and the barest INSERT per commit. All run on the same
server, started here with durable settings, in turns: each round gives each of them the same number
of appends, so that a slow minute of the machine hits all alike.

    python benchmarks/single_append.py [--rounds 7] [--appends 1000] [--url postgresql://…]
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8

from indelible import EventStore, embedded

_STREAMS = 500
_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")

# What pgbench sends: the same call, with the least possible around it.
_PGBENCH_SCRIPT = """\
\\set n random(1, 1000000000)
SELECT * FROM bench_indelible.append('pgbench-' || :n, NULL, -2, jsonb_build_array(
    jsonb_build_object('id', gen_random_uuid(), 'type', 'OrderCreated', 'data', '{data}'::jsonb)));
"""


@dataclass(frozen=True)
class OrderCreated:
    order_id: UUID
    customer: str
    address: str
    total: str
    items: int


def _event(number: int) -> OrderCreated:
    return OrderCreated(
        uuid4(), "Ann Example", "12 Some Street, 10115 Berlin", f"{number}.90", number % 9
    )


class Indelible:
    name = "indelible"

    def __init__(self, url: str) -> None:
        self._store = EventStore.connect(
            url, schema="bench_indelible", events=[OrderCreated], migrate=True
        )
        self._versions = dict.fromkeys(range(_STREAMS), -1)

    def append(self, number: int) -> None:
        stream = number % _STREAMS
        result = self._store.append(
            f"order-{stream}", _event(number), expected=self._versions[stream]
        )
        self._versions[stream] = result.version

    def close(self) -> None:
        self._store.close()


class EventSourcing:
    """Its application recorder as its documentation sets it up, given ready-made JSON."""

    name = "eventsourcing"

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        self._datastore = PostgresDatastore(
            dbname=str(given["dbname"]),
            host=str(given["host"]),
            port=str(given.get("port", 5432)),
            user=str(given["user"]),
            password=str(given.get("password", "")),
        )
        self._recorder = PostgresApplicationRecorder(
            self._datastore, events_table_name="bench_eventsourcing"
        )
        self._recorder.create_table()
        self._streams = [uuid4() for _ in range(_STREAMS)]
        self._versions = dict.fromkeys(range(_STREAMS), -1)

    def append(self, number: int) -> None:
        stream = number % _STREAMS
        self._versions[stream] += 1
        event = _event(number)
        state = (
            f'{{"order_id":"{event.order_id}","customer":"{event.customer}","address":'
            f'"{event.address}","total":"{event.total}","items":{event.items}}}'
        )
        self._recorder.insert_events(
            [
                StoredEvent(
                    originator_id=self._streams[stream],
                    originator_version=self._versions[stream],
                    topic="OrderCreated",
                    state=state.encode(),
                )
            ]
        )

    def close(self) -> None:
        self._datastore.close()


class BareInsert:
    """The limit: one prepared INSERT of such a row per commit, and nothing else."""

    name = "bare INSERT"

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(
            "DROP TABLE IF EXISTS bench_bare; CREATE TABLE bench_bare ("
            "position bigserial PRIMARY KEY, stream bigint, version bigint, id uuid UNIQUE,"
            " type text, data jsonb, recorded_at timestamptz DEFAULT clock_timestamp(),"
            " UNIQUE (stream, version))"
        )
        self._number = 0

    def append(self, number: int) -> None:
        self._number += 1
        event = _event(number)
        self._connection.execute(
            "INSERT INTO bench_bare (stream, version, id, type, data) VALUES (%s, %s, %s, %s, %s)",
            (
                Int8(number % _STREAMS),
                Int8(self._number),
                uuid4(),
                "OrderCreated",
                json.dumps({**asdict(event), "order_id": str(event.order_id)}),
            ),
            prepare=True,
        )

    def close(self) -> None:
        self._connection.close()


def _seconds(append: Callable[[int], None], numbers: range) -> list[float]:
    taken = []
    for number in numbers:
        started = time.perf_counter()
        append(number)
        taken.append(time.perf_counter() - started)
    return taken


def _pgbench(program: str, url: str, script: Path, appends: int) -> float | None:
    """Milliseconds per append through pgbench with one client; None where there is none."""
    done = subprocess.run(
        [program, "--no-vacuum", "--client=1", "--protocol=prepared", f"--file={script}",
         f"--transactions={appends}", url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith("latency average"):
            return float(line.split()[3])
    return None


def run(url: str, *, rounds: int, appends: int) -> None:
    script = Path(tempfile.mkdtemp()) / "append.sql"
    data = '{"order_id":"x","customer":"Ann Example","address":"12 Some Street","total":"1.90"}'
    script.write_text(_PGBENCH_SCRIPT.replace("{data}", data))
    contenders: list[Indelible | EventSourcing | BareInsert] = [
        Indelible(url),
        EventSourcing(url),
        BareInsert(url),
    ]
    pgbench = shutil.which("pgbench") or next(
        (str(found) for found in Path("/usr/lib/postgresql").glob("*/bin/pgbench")), None
    )
    medians: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    tails: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    medians["pgbench"] = []
    for contender in contenders:  # both are warm before the first round
        _seconds(contender.append, range(200))
    for round_ in range(rounds):
        for contender in contenders:
            taken = _seconds(contender.append, range(round_ * appends, (round_ + 1) * appends))
            medians[contender.name].append(statistics.median(taken) * 1e3)
            tails[contender.name].append(statistics.quantiles(taken, n=100)[98] * 1e3)
        if pgbench and (average := _pgbench(pgbench, url, script, appends)):
            medians["pgbench"].append(average)
    for contender in contenders:
        contender.close()

    ours = statistics.median(medians["indelible"])
    print(f"{'':<16}{'median ms':>10}{'p99 ms':>10}{'appends/s':>11}{'indelible is':>16}")
    for name, values in medians.items():
        if values:
            median = statistics.median(values)
            tail = f"{statistics.median(tails[name]):10.3f}" if name in tails else f"{'':>10}"
            ratio = f"{median / ours:.2f} x as fast"
            print(f"{name:<16}{median:10.3f}{tail}{1e3 / median:11,.0f}{ratio:>16}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--appends", type=int, default=1000, help="a round and contender")
    parser.add_argument("--url", help="a server to run on; by default one is started")
    given = parser.parse_args()
    server = None
    if given.url is None:
        folder = Path(tempfile.mkdtemp(prefix="indelible-bench-"))
        folder.chmod(0o755)
        server = embedded.start(folder / "server")
    url = given.url or make_conninfo(server.url if server else "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS bench_indelible CASCADE")
        connection.execute("DROP TABLE IF EXISTS bench_eventsourcing CASCADE")
        settings = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0]  # type: ignore[index]
            for name in _SETTINGS
        }
    print(
        f"one client, one event per append; {given.rounds} rounds of {given.appends}; Python"
        f" {platform.python_version()}, eventsourcing {version('eventsourcing')};"
        f" {', '.join(f'{name} {value}' for name, value in settings.items())}"
    )
    try:
        run(url, rounds=given.rounds, appends=given.appends)
    finally:
        if server is not None:
            server.close()


if __name__ == "__main__":
    main()
