"""The control connection: what must not wait behind the application's work.

A store has one connection beside its pool, and one thread that owns it. Its tasks share them:
the notifier and the head watcher of subscriptions/, and lease_renewal.py. Each says when it has
something to do; the thread waits for that time, for the server and for whoever wakes it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from math import inf
from selectors import EVENT_READ, DefaultSelector
from typing import Protocol, TypeVar

import psycopg
from psycopg import sql

from indelible.core.operation import Operation
from indelible.core.retry import Backoff
from indelible.errors import ConnectionLost, DatabaseUnreachable, IndelibleError

from .adapters import Connection
from .connection import open_connection
from .errors import translate
from .forks import Origin
from .session import is_direct_connection
from .settings import Settings
from .transaction import BoundEngine

_LINGER = 5.0
"""Seconds without anything to do after which the connection is closed."""
_CONNECT_TIMEOUT = 5.0
_BACKOFF = Backoff()

T = TypeVar("T")

_log = logging.getLogger("indelible")


class Session:
    """The connection, for as long as it lasts.

    Args:
        connection: the connection.
        settings: how to reach the store.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        self.connection = connection
        self.is_direct: bool = is_direct_connection(connection.info.backend_pid, row)
        """Whether it keeps what is set and prepared in it: no pooler is in between."""
        self.listens = False
        """Whether it listens for the store's notifications, and receives them."""
        if self.is_direct:
            # One part that waits for a lock would keep all others from their work.
            connection.execute("SET lock_timeout = '1s'")
        else:
            connection.prepare_threshold = None
        self._engine = BoundEngine(connection, settings)
        self._handler: Callable[[psycopg.Notify], None] | None = None

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""
        return self._engine.run(operation)

    def listen(self, channel: str, handler: Callable[[str], None]) -> None:
        """Listen on a notification channel.

        A shared advisory lock shows notifiers that somebody listens, as long as this session lasts.

        Args:
            channel: its name.
            handler: called with each notification's payload.
        """
        self._handler = lambda notification: handler(notification.payload)
        self.connection.add_notify_handler(self._handler)
        self.connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self.connection.execute("SELECT pg_advisory_lock_shared(-1, hashtext(%s))", [channel])

    def unlisten(self, channel: str) -> None:
        """Stop listening on a channel that `listen` was called with."""
        if self._handler is not None:
            self.connection.remove_notify_handler(self._handler)
        self.connection.execute("UNLISTEN *")
        self.connection.execute("SELECT pg_advisory_unlock_shared(-1, hashtext(%s))", [channel])

    def notify(self, channel: str, payload: str) -> None:
        """Send a notification."""
        self.connection.execute("SELECT pg_notify(%s, %s)", [channel, payload])

    def wait(self, seconds: float) -> None:
        """Wait for what the server says by itself, so many seconds at most."""
        with DefaultSelector() as selector:
            selector.register(self.connection, EVENT_READ)
            if selector.select(seconds):
                self.take_notifies()

    def take_notifies(self) -> None:
        """Hand what the server has said to the handlers."""
        pgconn = self.connection.pgconn
        pgconn.consume_input()
        while (notify := pgconn.notifies()) is not None:
            if pgconn.notify_handler is not None:
                pgconn.notify_handler(notify)


class ControlTask(Protocol):
    """What uses the control connection. All but `due_at` is called in its thread."""

    def due_at(self) -> float:
        """When it has something to do, on the monotonic clock; `inf` for nothing."""

    def begin(self, session: Session) -> None:
        """Get to know a new connection."""

    def act(self, session: Session) -> None:
        """Do what there is to do."""

    def fail(self, problem: IndelibleError) -> None:
        """Learn that it could not be done; the connection is still there."""

    def lose(self) -> None:
        """Learn that there is no connection."""


class ControlConnection:
    """One connection and one thread for the parts of a store.

    The connection is made when a part first has something to do, is closed when none had for a
    while, and is made again when it was lost. No error ends the thread.

    Args:
        settings: how to reach the store.
    """

    def __init__(self, settings: Settings) -> None:
        # It is to be found out soon that a server does not answer: leases depend on it.
        self._settings = settings.with_timeout(_CONNECT_TIMEOUT)
        self._origin = Origin()
        self._parts: tuple[ControlTask, ...] = ()
        # Reentrant: the garbage collector may end a reader in the middle of anything.
        self.guard: threading.RLock = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._alarm: tuple[socket.socket, socket.socket] | None = None
        self._sleeps_until = inf
        self._failures = 0

    @property
    def is_here(self) -> bool:
        """Whether it is of this process. Where not, not even `guard` may be taken."""
        return self._origin.is_here

    def check_origin(self) -> None:
        """Check that it is of this process.

        Raises:
            StoreForked: the store was opened before a fork.
        """
        self._origin.check()

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        return self._closing.is_set()

    def serve(self, *parts: ControlTask) -> None:
        """Say which parts use it, the most urgent first."""
        self._parts = parts

    def wake_by(self, moment: float) -> None:
        """Have the parts looked at by a moment, if they would not be anyway.

        Raises:
            DatabaseUnreachable: its thread cannot be started.
        """
        if self._sleeps_until > moment:
            self._wake()

    def _wake(self) -> None:
        with self.guard:
            if self._thread is None and not self.is_closed:
                self._start()
            if self._alarm is not None:
                with suppress(BlockingIOError):  # it rings already
                    self._alarm[1].send(b"\0")

    def _start(self) -> None:
        try:
            self._alarm = socket.socketpair()
            for end in self._alarm:
                end.setblocking(False)
            thread = threading.Thread(target=self._run, name="indelible-control", daemon=True)
            thread.start()
            self._thread = thread
        except (OSError, RuntimeError) as error:
            self._end()
            raise DatabaseUnreachable(
                f"the thread of the control connection cannot be started ({error}): end threads,"
                " close files, or raise the limits of the process"
            ) from error

    def _end(self) -> None:
        with self.guard:
            self._thread, self._sleeps_until = None, inf
            if self._alarm is not None:
                for end in self._alarm:
                    end.close()
                self._alarm = None

    def close(self) -> None:
        """Do what is due, and end. Closing twice is allowed."""
        with self.guard:
            self._closing.set()
            thread = self._thread
            self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)

    # In its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        self._failures = 0
        while True:
            try:
                self._work()
                return
            except Exception as error:
                problem = self._translated(error)
            except BaseException:  # the next who needs it starts it again
                self._end()
                raise
            if self.is_closed:
                self._end()
                return
            for part in self._parts:
                part.lose()
            if self._is_idle():
                _log.debug("the control connection is not there (%s)", problem)
                return
            self._failures += 1
            pause = _BACKOFF.delay(self._failures)
            _log.warning(
                "the control connection is not there (%s); trying again in %.2f s",
                problem,
                pause,
                exc_info=None if isinstance(problem, IndelibleError) else problem,
            )
            self._closing.wait(pause)

    def _translated(self, error: Exception) -> Exception:
        return translate(error, self._settings) if isinstance(error, psycopg.Error) else error

    def _work(self) -> None:
        """Serve the parts on one connection, until there is nothing to do."""
        with closing(open_connection(self._settings)) as connection, DefaultSelector() as selector:
            session = Session(connection, self._settings)
            for part in self._parts:
                part.begin(session)
            assert self._alarm is not None  # noqa: S101 - as long as the thread runs
            alarm = self._alarm[0]
            selector.register(alarm, EVENT_READ)
            selector.register(connection, EVENT_READ)
            while True:
                for part in self._parts:
                    if part.due_at() <= time.monotonic():
                        self._act(part, session)
                self._failures = 0
                if self.is_closed:
                    self._end()
                    return
                # In this order: whoever changes what is due before it is asked wakes this thread.
                self._sleeps_until = inf
                due_at = min(part.due_at() for part in self._parts)
                self._sleeps_until = due_at
                pause = max(due_at - time.monotonic(), 0) if due_at < inf else _LINGER
                ready = selector.select(pause)
                self._sleeps_until = -inf
                if not ready and due_at == inf and self._is_idle():
                    return
                for key, _ in ready:
                    if key.fileobj is alarm:
                        alarm.recv(4096)
                    else:
                        session.take_notifies()

    def _act(self, part: ControlTask, session: Session) -> None:
        try:
            part.act(session)
        except Exception as error:
            problem = self._translated(error)
            is_lost = isinstance(problem, ConnectionLost | DatabaseUnreachable)
            if session.connection.closed or is_lost or not isinstance(problem, IndelibleError):
                raise
            part.fail(problem)

    def _is_idle(self) -> bool:
        """End where no part has anything to do; say whether that is so."""
        with self.guard:
            is_idle = all(part.due_at() == inf for part in self._parts)
            if is_idle:
                self._end()
        return is_idle
