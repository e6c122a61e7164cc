"""The control connection: one more connection for work that must not wait for the application.

A store has one connection beside its pool, and one thread that owns it. Its tasks share both: the
notifier and the head watcher of subscriptions/, and lease_renewal.py. Each task returns when it is
due. The thread waits for that time, for the server, or until another thread wakes it.
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
"""Seconds without work after which the connection is closed."""
_CONNECT_TIMEOUT = 5.0
_BACKOFF = Backoff()

T = TypeVar("T")

_log = logging.getLogger("indelible")


class Session:
    """The session of one control connection, until it is closed or lost.

    Args:
        connection: the connection.
        settings: the settings of the store.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        self.connection = connection
        self.is_direct: bool = is_direct_connection(connection.info.backend_pid, row)
        """Whether no pooler is in between, so that settings and prepared statements last."""
        self.listens = False
        """Whether the session listens for the store's notifications and receives them."""
        if self.is_direct:
            # A task that waits for a lock would delay all other tasks.
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

        Until the session ends, a shared advisory lock shows notifiers that a session listens.

        Args:
            channel: the name of the channel.
            handler: called with the payload of each notification.
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
        """Wait for notifications at most `seconds`, and pass them to the handler."""
        with DefaultSelector() as selector:
            selector.register(self.connection, EVENT_READ)
            if selector.select(seconds):
                self.take_notifies()

    def take_notifies(self) -> None:
        """Pass received notifications to the handler."""
        pgconn = self.connection.pgconn
        pgconn.consume_input()
        while (notify := pgconn.notifies()) is not None:
            if pgconn.notify_handler is not None:
                pgconn.notify_handler(notify)


class ControlTask(Protocol):
    """A task on the control connection. All methods but `due_at` are called in its thread."""

    def due_at(self) -> float:
        """Return when the task has work, on the monotonic clock; `inf` for never."""

    def begin(self, session: Session) -> None:
        """Prepare the session of a new connection."""

    def act(self, session: Session) -> None:
        """Do the work that is due."""

    def fail(self, problem: IndelibleError) -> None:
        """Handle an error of `act` after which the connection still works."""

    def lose(self) -> None:
        """Handle the loss of the connection."""


class ControlConnection:
    """One connection and one thread for the control tasks of a store.

    The thread opens the connection when a task first has work, and opens it again after a loss. It
    closes the connection when no task has had work for a while. No error ends the thread.

    Args:
        settings: the settings of the store.
    """

    def __init__(self, settings: Settings) -> None:
        # Short, so that a server that does not answer is noticed soon: leases depend on it.
        self._settings = settings.with_timeout(_CONNECT_TIMEOUT)
        self._origin = Origin()
        self._parts: tuple[ControlTask, ...] = ()
        # Reentrant: the garbage collector may close a reader at any point, also inside this lock.
        self.guard: threading.RLock = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._alarm: tuple[socket.socket, socket.socket] | None = None
        self._sleeps_until = inf
        self._failures = 0

    @property
    def is_here(self) -> bool:
        """Whether the store was opened in this process. If not, do not even acquire `guard`."""
        return self._origin.is_here

    def check_origin(self) -> None:
        """Check that the store was opened in this process.

        Raises:
            StoreForked: the store was opened before a fork.
        """
        self._origin.check()

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        return self._closing.is_set()

    def serve(self, *parts: ControlTask) -> None:
        """Set the tasks of the connection, the most urgent first."""
        self._parts = parts

    def wake_by(self, moment: float) -> None:
        """Make sure that the thread checks its tasks at `moment` at the latest.

        Raises:
            DatabaseUnreachable: the thread cannot be started.
        """
        if self._sleeps_until > moment:
            self._wake()

    def _wake(self) -> None:
        with self.guard:
            if self._thread is None and not self.is_closed:
                self._start()
            if self._alarm is not None:
                with suppress(BlockingIOError):  # enough wake-ups are unread
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
                f"cannot start the thread of the control connection ({error}): end threads, close"
                " files, or raise the limits of the process"
            ) from error

    def _end(self) -> None:
        with self.guard:
            self._thread, self._sleeps_until = None, inf
            if self._alarm is not None:
                for end in self._alarm:
                    end.close()
                self._alarm = None

    def close(self) -> None:
        """Do the work that is due, and end the thread. Closing twice is allowed."""
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
            except BaseException:  # the next task that has work starts the thread again
                self._end()
                raise
            if self.is_closed:
                self._end()
                return
            for part in self._parts:
                part.lose()
            if self._is_idle():
                _log.debug("the control connection failed (%s)", problem)
                return
            self._failures += 1
            pause = _BACKOFF.delay(self._failures)
            _log.warning(
                "the control connection failed (%s); retrying in %.2f s",
                problem,
                pause,
                exc_info=None if isinstance(problem, IndelibleError) else problem,
            )
            self._closing.wait(pause)

    def _translated(self, error: Exception) -> Exception:
        return translate(error, self._settings) if isinstance(error, psycopg.Error) else error

    def _work(self) -> None:
        """Serve the tasks on one connection until none has work."""
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
                # A statement may have received a notification behind its own result: the socket
                # does not show it any more.
                session.take_notifies()
                if self.is_closed:
                    self._end()
                    return
                # Reset before asking: a task that becomes due meanwhile then wakes this thread.
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
        """Return whether no task has work; if so, end the thread."""
        with self.guard:
            is_idle = all(part.due_at() == inf for part in self._parts)
            if is_idle:
                self._end()
        return is_idle
