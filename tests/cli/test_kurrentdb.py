"""`indelible kurrentdb`: what it refuses. tests/kurrentdb runs it."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.support.command import Command


@pytest.fixture
def run(server_url: str, schema: str) -> Command:
    return Command(server_url, schema)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "pass --insecure to serve programs of this machine"),
        (["--insecure", "--host", "0.0.0.0"], "--insecure is for addresses of this machine only"),
        (["--insecure", "--advertise", "db"], "--advertise must be a host and a port"),
        (["--insecure", "--log-level", "LOUD"], "--log-level must be"),
    ],
    ids=["no option", "host", "advertise", "level"],
)
def test_what_it_cannot_do_is_refused_with_a_sentence(
    run: Command, options: list[str], sentence: str
) -> None:
    done = run("kurrentdb", *options)

    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert done.err.count("\n") == 1


def test_a_port_that_is_taken_is_named(run: Command) -> None:
    assert run("store", "init").code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("kurrentdb", "--insecure", "--port", str(port))

    assert (done.code, done.out) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}" in done.err


def test_packages_that_are_missing_are_named(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "indelible.kurrentdb.run", None)

    done = run("kurrentdb", "--insecure")

    assert done.code == 2
    assert "pip install 'indelible[kurrentdb]'" in done.err
