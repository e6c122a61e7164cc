"""The client in TypeScript: its types are right, and it does what it says against a server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .conftest import Serve

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "http"
PACKAGE = "typescript@5.9.3"


@pytest.fixture(scope="session")
def compiler() -> Path:
    """The compiler of TypeScript, installed once into `build/`, which git ignores."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node.js is not installed (Debian: apt-get install nodejs npm)")
    folder = ROOT / "build" / "npm"
    found = folder / "node_modules" / "typescript" / "bin" / "tsc"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n', "utf-8")
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", PACKAGE],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()}")
    return found


def test_the_client_appends_reads_and_resumes(compiler: Path, serve: Serve, tmp_path: Path) -> None:
    compiled = subprocess.run(
        ["node", compiler, "--project", EXAMPLE, "--outDir", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stdout

    with cut_once(serve(), after=b"OrderPlaced") as address:
        done = subprocess.run(
            ["node", tmp_path / "orders.mjs", address],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "appended version 0",
        "conflict with version 0",
        "read OrderPlaced, OrderPaid",
        "received OrderPlaced of version 0",
        "connect again",
        "received OrderPaid of version 1",
        "received OrderShipped of version 2",
    ]


@contextmanager
def cut_once(address: str, *, after: bytes) -> Iterator[str]:
    """A way to a server that cuts the first subscription when it has sent some text."""
    host, _, port = address.removeprefix("http://").partition(":")
    listener = socket.create_server((host, 0))
    was_cut = threading.Event()

    def serve_client(client: socket.socket) -> None:
        sent = bytearray()
        subscribes = threading.Event()

        def forward_requests() -> None:
            with suppress(OSError):
                while part := client.recv(65_536):
                    if b"/events/subscribe" in part:
                        sent.clear()  # the answers before it on this connection
                        subscribes.set()
                    server.sendall(part)

        with client, socket.create_connection((host, int(port))) as server, suppress(OSError):
            threading.Thread(target=forward_requests, daemon=True).start()
            while part := server.recv(65_536):
                sent += part
                if subscribes.is_set() and not was_cut.is_set() and after in sent:
                    was_cut.set()
                    # Up to the end of the message: the client knows the first event.
                    end = sent.index(b"\n\n", sent.index(after)) + 2
                    client.sendall(part[: end - len(sent) or None])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(part)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve_client, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    assert was_cut.is_set()
