"""Forks: a child process must not use the connections of its parent.

Parent and child would write to the same sockets, and read each other's answers. So the child
rejects everything that was opened before the fork. It also releases the sockets at once, so that
the server notices when the parent ends. It sends nothing to the server, since the parent still uses
the sockets.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg

from indelible.errors import StoreForked

_forks, _pid = 0, os.getpid()
"""The number of forks between the first process and this one, and the id of this process."""
_connections: WeakSet[psycopg.Connection[Any] | psycopg.AsyncConnection[Any]] = WeakSet()


class Origin:
    """The process that opened a store."""

    __slots__ = ("_forks", "_pid")

    def __init__(self) -> None:
        self._forks, self._pid = _forks, _pid

    @property
    def is_here(self) -> bool:
        """Whether it is this process. If not, acquire no lock: it may never be released here."""
        return self._forks == _forks

    def check(self) -> None:
        """Check that it is this process.

        Raises:
            StoreForked: it is another process.
        """
        if self._forks != _forks:
            raise StoreForked(self._pid)


def keep_from_children(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
) -> None:
    """Have child processes release the socket of a connection."""
    _connections.add(connection)


def _let_go() -> None:
    global _forks, _pid
    _forks, _pid = _forks + 1, os.getpid()
    if not _connections:
        return
    ours, other = socket.socketpair()
    other.close()
    with ours:
        for connection in tuple(_connections):
            with suppress(psycopg.Error):  # it is closed
                # Replaces the socket, so that no other file gets its descriptor. Later writes to
                # the descriptor fail, and do not reach the parent's socket.
                os.dup2(ours.fileno(), connection.pgconn.socket, inheritable=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
