"""`indelible serve` as a process: signals, exit codes, several workers, TLS, log lines."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible import ANY, EventStore, NewEvent
from tests.support.http_server import HttpServer, children
from tests.support.waiting import wait_until

BODY = {"events": [{"type": "A"}], "expected": "any"}

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds the workers in /proc"
)


def is_alive(address: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{address}/health/live", timeout=30).status_code == 200
    return False


def is_running(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def workers(url: str, schema: str) -> Iterator[HttpServer]:
    with HttpServer(url, schema, "--workers=2") as server:
        yield server


@needs_proc
def test_workers_share_a_port_and_one_that_dies_is_replaced(
    workers: HttpServer, store: EventStore
) -> None:
    before = children(workers.pid)
    assert len(before) == 2
    assert [line for line in workers.lines if "indelible serves" in line] == workers.lines[-1:]

    for victim in before:
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in children(workers.pid))  # noqa: B023
        assert is_alive(workers.address)  # the other one answers
    wait_until(lambda: len(children(workers.pid) - before) == 2)

    for number in range(20):
        answer = httpx.post(f"{workers.address}/api/v1/streams/a-1/events", json=BODY, timeout=30)
        assert answer.status_code == 201
        assert answer.json()["version"] == str(number)
    assert len([line for line in workers.lines if "indelible serves" in line]) == 1
    assert any("a worker of the server ended" in line for line in workers.lines)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("count", [1, 2])
def test_a_signal_ends_streams_and_finishes_requests(
    url: str, schema: str, store: EventStore, count: int, number: signal.Signals
) -> None:
    with HttpServer(url, schema, f"--workers={count}") as server:
        started = children(server.pid)
        address = f"{server.address}/api/v1"
        with httpx.stream("GET", f"{address}/events/subscribe", timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line == "event: caught_up")
            code = server.stop(number)
            assert all(not line.startswith("event: failed") for line in lines)  # it has an end

    assert code == 0, server.lines
    assert not any("Traceback" in line for line in server.lines), server.lines
    wait_until(lambda: not any(map(is_running, started)))
    assert not is_alive(server.address)


@needs_proc
def test_workers_end_with_the_process_that_started_them(workers: HttpServer) -> None:
    started = children(workers.pid)
    assert len(started) == 2

    workers.stop(signal.SIGKILL)

    wait_until(lambda: not any(map(is_running, started)))
    workers.start()  # the port is free
    assert is_alive(workers.address)


def test_what_keeps_a_server_from_starting_ends_it(url: str, schema: str, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    certificate = (f"--tls-cert={tmp_path}/cert.pem", f"--tls-key={tmp_path}/cert.pem")

    def ends(database: str, *arguments: str) -> tuple[int, str]:
        server = HttpServer(database, schema, *arguments)
        server.begin()
        return server.wait(), " ".join(server.lines)

    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        for count in (1, 2):
            workers = f"--workers={count}"
            code, said = ends(url, workers, *certificate)
            assert (code, "--tls-cert" in said) == (2, True), said
            code, said = ends(url, workers, f"--port={port}")
            assert (code, "--port" in said) == (2, True), said
            code, said = ends("postgresql://127.0.0.1:1/none", workers)
            assert (code, "cannot reach the database" in said) == (3, True), said
    for wrong in ("--workers=0", "--rate=-1", "--max-connections=0", "--allowed-origin=*",
                  "--host=0.0.0.0 --no-auth", "--tls-cert=x"):  # fmt: skip
        code, said = ends(url, *wrong.split())
        assert code == 2, said


@pytest.mark.parametrize("count", [1, 2])
def test_log_lines_are_json(url: str, schema: str, store: EventStore, count: int) -> None:
    token = store.create_token("writer", can="append").text
    arguments = ("--log-format=json", "--auth", f"--workers={count}")
    with HttpServer(url, schema, *arguments) as server:
        address = f"{server.address}/api/v1"
        headers = {"Authorization": f"Bearer {token}"}
        httpx.post(f"{address}/streams/a-1/events", json=BODY, headers=headers, timeout=30)
        httpx.get(f"{address}/events", headers=headers, timeout=30)
        httpx.get(f"{address}/events/subscribe?ticket=secret", timeout=30)
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            connection.sendall(b"GARBAGE\r\n\r\n")
            connection.recv(1_000)
        server.stop()

    lines: list[dict[str, Any]] = [json.loads(line) for line in server.lines]
    assert lines[0]["message"] == "indelible serves"
    assert lines[0]["address"] == address
    audit = [line for line in lines if line["logger"] == "indelible.audit"]
    assert [(line["message"], line["status"]) for line in audit] == [
        ("POST /api/v1/streams/a-1/events", 201),
        ("GET /api/v1/events", 403),
        ("GET /api/v1/events/subscribe", 401),
    ]
    name = f"token {token.split('_')[1]} (writer)"
    assert [line["principal"] for line in audit] == [name, name, None]
    assert {line["client"] for line in audit} == {"127.0.0.1"}
    assert "secret" not in " ".join(server.lines)
    assert [line["logger"] for line in lines[1:]] == ["indelible.audit"] * 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for this machine, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("count", [1, 2])
def test_https_is_served_with_a_certificate(
    url: str, schema: str, store: EventStore, certificate: Path, count: int
) -> None:
    token = store.create_token("reader", can="read").text
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    arguments = (f"--tls-cert={certificate}/cert.pem", f"--tls-key={certificate}/key.pem")
    with HttpServer(url, schema, *arguments, "--auth", f"--workers={count}") as server:
        assert server.address.startswith("https://127.0.0.1:")
        with httpx.Client(
            base_url=f"{server.address}/api/v1", verify=context, timeout=30
        ) as client:
            headers = {"Authorization": f"Bearer {token}"}
            begun = client.post("/session", headers=headers)
            assert begun.status_code == 201
            assert begun.headers["set-cookie"].startswith("__Host-indelible=")
            assert "Secure" in begun.headers["set-cookie"]
            assert client.get("/head").json()["position"] == "0"
            # A page that somebody serves without TLS under the same name is another one.
            plain = {"Origin": server.address.replace("https:", "http:")}
            assert client.get("/head", headers=plain).status_code == 403
            own = {"Origin": server.address}
            assert client.delete("/session", headers=own).status_code == 204
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.address}/health/live", timeout=30)  # an unknown certificate
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{server.address.replace('https:', 'http:')}/health/live", timeout=30)
        assert server.stop() == 0
    assert not any("Traceback" in line for line in server.lines), server.lines


def test_a_worker_reads_what_another_has_written(workers: HttpServer, store: EventStore) -> None:
    store.append("a-1", NewEvent("A", {}), expected=ANY)

    for _ in range(10):  # each on a connection of its own, so that both take part
        found = httpx.get(f"{workers.address}/api/v1/head", timeout=30).json()
        assert found["position"] == str(store.head())
        store.append("a-1", NewEvent("A", {}), expected=ANY)


@pytest.mark.parametrize("count", [1, 2])
def test_an_embedded_postgresql_runs_as_long_as_its_server(server_folder: Path, count: int) -> None:
    url = f"embedded://{server_folder}/serve{count}"
    for options in (["--demo"], []):
        with HttpServer(url, "indelible", f"--workers={count}", *options) as server:
            address = f"{server.address}/api/v1"
            answer = httpx.post(f"{address}/streams/a-1/events", json=BODY, timeout=30)
            assert answer.status_code == 201
            events = httpx.get(f"{address}/events?limit=1", timeout=30).json()["events"]
            assert len(events) == 1
            assert server.stop() == 0
