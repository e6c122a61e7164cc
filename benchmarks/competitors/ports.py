"""Ports of servers that a contender starts."""

from __future__ import annotations

import socket
import subprocess
import time

from . import NotRun

_PATIENCE = 30
"""Seconds that a server may take to start."""


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server takes connections.

    Raises:
        NotRun: it has ended, or takes too long.
    """
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise NotRun("its server did not start")
