"""The command, and programs as the clients' documentation has them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from indelible import EventStore
from indelible import NewEvent as NativeEvent
from indelible.events import ANY
from indelible.kurrentdb.proto import streams_pb2
from tests.support.kurrentdb_calls import NOTHING, calls_of, log_options
from tests.support.kurrentdb_server import kurrentdb_served
from tests.support.waiting import wait_until

_PYTHON = """
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
client = KurrentDBClient("{address}")
at = client.append_to_stream(
    "order-1",
    current_version=StreamState.NO_STREAM,
    events=[NewEvent("OrderPlaced", b'{{"n": 1}}')],
)
for event in client.read_all(commit_position=at):
    print(event.type, event.data)
"""
_NODE = """
import {{ KurrentDBClient, jsonEvent, eventTypeFilter, NO_STREAM }}
  from "@kurrent/kurrentdb-client";
const client = KurrentDBClient.connectionString`{address}`;
await client.appendToStream("order-1", jsonEvent({{ type: "OrderPlaced", data: {{ n: 1 }} }}));
for await (const {{ event }} of client.readStream("order-1")) console.log(event.type, event.data.n);
const again = jsonEvent({{ type: "OrderPlaced", data: {{ n: 2 }} }});
try {{
  await client.appendToStream("order-1", again, {{ streamState: NO_STREAM }});
}} catch (error) {{
  console.log(error.constructor.name);
}}
try {{
  for await (const event of client.readStream("order-2"));
}} catch (error) {{
  console.log(error.constructor.name);
}}
const filter = eventTypeFilter({{ prefixes: ["Order"] }});
for await (const {{ event }} of client.subscribeToAll({{ filter }})) {{
  console.log("followed", event.type, event.data.n);
  if (event.data.n === 3) break;
  await client.appendToStream("order-3", jsonEvent({{ type: "OrderPlaced", data: {{ n: 3 }} }}));
}}
process.exit(0);
"""
# A folder with the package @kurrent/kurrentdb-client, as npm installs it.
_NODE_FOLDER = Path(os.environ.get("INDELIBLE_TEST_KURRENTDB_NODE", ".venv/node"))


@contextmanager
def command(url: str, schema: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `indelible kurrentdb --insecure`; give the connection string that it says."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "indelible", "kurrentdb", "--insecure", "--port", "0"),
            *("--url", url, "--schema", schema, *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("indelible serves kurrentdb://127.0.0.1:"), line
        yield line.split()[-1], process
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_a_python_program_runs_unchanged(url: str, schema: str, store: EventStore) -> None:
    with command(url, schema) as (address, process):
        done = subprocess.run(
            [sys.executable, "-c", _PYTHON.format(address=address)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    assert done.stdout == "OrderPlaced b'{\"n\":1}'\n", done.stderr
    assert [event.data for event in store.read("order-1")] == [{"n": 1}]


@pytest.mark.skipif(
    shutil.which("node") is None or not (_NODE_FOLDER / "node_modules/@kurrent").exists(),
    reason="needs node, and @kurrent/kurrentdb-client in $INDELIBLE_TEST_KURRENTDB_NODE",
)
def test_a_node_program_runs_unchanged(url: str, schema: str, store: EventStore) -> None:
    with kurrentdb_served(url, schema) as address:
        done = subprocess.run(
            ["node", "--input-type=module", "-e", _NODE.format(address=address)],
            cwd=_NODE_FOLDER,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert done.stdout.splitlines() == [
        "OrderPlaced 1",
        "WrongExpectedVersionError",
        "StreamNotFoundError",
        "followed OrderPlaced 1",
        "followed OrderPlaced 3",
    ], done.stderr


def test_a_client_that_discovers_finds_the_server(url: str, schema: str, store: EventStore) -> None:
    from kurrentdbclient import KurrentDBClient

    with kurrentdb_served(url, schema) as address:
        target = address.removeprefix("kurrentdb://").replace("127.0.0.1", "localhost")
        client = KurrentDBClient(f"kurrentdb+discover://{target}")
        assert list(client.read_all()) == []
        client.close()


def test_a_runaway_pattern_is_refused_and_the_server_goes_on(
    url: str, schema: str, store: EventStore
) -> None:
    store.append("order-1", NativeEvent("a" * 60, {}), expected=ANY)
    runaway = streams_pb2.ReadRequest.Filter(
        event_type=streams_pb2.ReadRequest.Expression(regex="(a+)+$b"),
        count=NOTHING,
        checkpoint_interval_multiplier=1,
    )
    runaway.event_type.regex = "^(a|aa)+$b?c"

    with command(url, schema) as (address, _), calls_of(address) as calls:
        for options in (
            log_options(filter=runaway),
            log_options(filter=runaway, subscription=NOTHING),
        ):
            with pytest.raises(grpc.RpcError, match="takes too long") as raised:
                list(calls.read(options))
            assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert calls.features().methods


def test_two_servers_on_one_store_see_the_same(url: str, schema: str, store: EventStore) -> None:
    from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

    with kurrentdb_served(url, schema) as one, kurrentdb_served(url, schema) as two:
        writer, reader = KurrentDBClient(one), KurrentDBClient(two)
        subscription = reader.subscribe_to_stream("order-1")
        writer.append_to_stream(
            "order-1", current_version=StreamState.NO_STREAM, events=[NewEvent("Made", b"{}")]
        )
        assert next(subscription).type == "Made"
        subscription.stop()
        writer.close()
        reader.close()


def test_appends_that_are_repeated_over_a_killed_server_are_stored_once(
    url: str, schema: str, store: EventStore
) -> None:
    from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
    from kurrentdbclient.exceptions import KurrentDBClientError

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    events = [NewEvent("Made", b'{"n":%d}' % number) for number in range(400)]
    done: list[int] = []
    repeated = 0

    def write() -> None:
        nonlocal repeated
        client = KurrentDBClient(f"kurrentdb://127.0.0.1:{port}?tls=false")
        for event in events:
            while True:
                try:
                    done.append(
                        client.append_to_stream(
                            "order-1", current_version=StreamState.ANY, events=event, timeout=5
                        )
                    )
                    break
                except KurrentDBClientError:
                    repeated += 1
        client.close()

    with ExitStack() as servers:
        _, process = servers.enter_context(command(url, schema, "--port", port))
        thread = threading.Thread(target=write)
        thread.start()
        for count in (50, 150):
            wait_until(lambda count=count: len(done) > count)  # type: ignore[misc]
            process.kill()
            process.wait(20)
            _, process = servers.enter_context(command(url, schema, "--port", port))
        thread.join(60)
        assert not thread.is_alive()

    assert [event.id for event in store.read("order-1")] == [event.id for event in events]
    assert done == [event.position for event in store.read("order-1")]
