"""Forks: the connections of a process are not its children's.

Parent and child would write to the same sockets, and each would read answers that are the other's.
So what was opened before a fork is refused in the child, which also lets go of the sockets: without
a word to the server, for the parent goes on with them, and at once, so that the server notices when
the parent ends.
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
"""How many forks lie between the first process and this one, and its number."""
_connections: WeakSet[psycopg.Connection[Any] | psycopg.AsyncConnection[Any]] = WeakSet()


class Origin:
    """The process that something was opened in."""

    __slots__ = ("_forks", "_pid")

    def __init__(self) -> None:
        self._forks, self._pid = _forks, _pid

    @property
    def is_here(self) -> bool:
        """Whether it is this one. Where not, not even a lock may be taken: nobody gives it back."""
        return self._forks == _forks

    def check(self) -> None:
        """Check that it is this one.

        Raises:
            StoreForked: it is another one.
        """
        if self._forks != _forks:
            raise StoreForked(self._pid)


def keep_from_children(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
) -> None:
    """Have a connection cut off in the processes that are forked of this one."""
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
                # In the place of the descriptor, so that no other file gets its number: whoever
                # still writes to it gets an error, and the parent's socket nothing.
                os.dup2(ours.fileno(), connection.pgconn.socket, inheritable=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
