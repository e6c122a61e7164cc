"""How readers learn that there is something new: a doorbell, and a watch on the head.

NOTIFY takes a lock of the whole cluster at commit, so it stays out of the appending transaction: a
`Doorbell` rings after the commit, from a connection of its own, at most once per few milliseconds.
A `Watch` is the one listener and the one poller of a store, however many subscriptions it serves.
What wakes a reader is never trusted: it looks at the head, and it polls where no bell is heard.

Both are threads, in the async face too, so that there is one of each kind. They begin with the
first need, and end when there was none for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol
from uuid import uuid4

import psycopg

from .errors import ConnectionLost, DatabaseUnreachable, IndelibleError, TransactionConflict
from .postgres import (
    BoundEngine,
    Connection,
    Settings,
    open_connection,
    speaks_to_the_server,
    translate,
)
from .read import head, head_info

_RING_PAUSE = 0.003
_UNHEARD_PAUSE = 0.1
"""Seconds between two rings, where somebody listens and where nobody does."""
_SHORTEST_POLL = 0.005
_LONGEST_POLL = 0.5
_LONGEST_POLL_ALONE = 0.1
"""Seconds between two looks at the head: at first, and at most with and without LISTEN."""
_LISTEN_TEST = 1.0
_LINGER = 5.0
_HELD_TOO_LONG = 10.0
"""After how many seconds of a head that is held back a warning is logged."""
_SHORTEST_RETRY = 0.05
_LONGEST_RETRY = 5.0

PASSING = (ConnectionLost, DatabaseUnreachable, TransactionConflict)
"""Errors that pass by themselves: a reader goes on as soon as the database is there again."""

_log = logging.getLogger("indelible")


def bell_name(schema: str) -> str:
    """The NOTIFY channel of a store."""
    return f"indelible_{schema}"


class Retries:
    """How long to wait before each new attempt to reach the database: longer each time."""

    def __init__(self) -> None:
        self._pause = _SHORTEST_RETRY

    def next_pause(self) -> float:
        """Seconds to wait now."""
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_RETRY)
        return pause

    def succeed(self) -> None:
        """Begin again with the shortest."""
        self._pause = _SHORTEST_RETRY


class Doorbell:
    """Tells the watches of all processes that something was committed.

    Args:
        settings: how to reach the store.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Not an event, whose lock a thread would keep that a signal interrupts.
        self._rung: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_heard = True
        self._closing = threading.Event()

    def ring(self) -> None:
        """Ring soon. Returns at once, and never fails: a bell not heard costs latency only."""
        if not self._rung.empty():
            return
        self._rung.put(None)
        with self._starting:
            if self._thread is None and not self._closing.is_set():
                self._thread = _start(self._run, "indelible-doorbell")

    def close(self) -> None:
        """Ring for what is still to be told, and end. Closing twice is allowed."""
        with self._starting:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            self._rung.put(None)
            thread.join(timeout=2)

    def _run(self) -> None:
        connection: Connection | None = None
        try:
            while not self._closing.is_set():
                # Taken before it is told: what is committed after this rings again.
                if not self._take_rings(_LINGER):
                    with self._starting:
                        if self._rung.empty():
                            self._thread = None
                            return
                    continue
                connection = self._tell(connection)
                self._closing.wait(_RING_PAUSE if self._is_heard else _UNHEARD_PAUSE)
            if not self._rung.empty():
                connection = self._tell(connection)
        finally:
            if connection is not None:
                connection.close()

    def _take_rings(self, seconds: float) -> bool:
        try:
            self._rung.get(timeout=seconds)
        except Empty:
            return False
        while not self._rung.empty():
            self._rung.get()
        return True

    def _tell(self, connection: Connection | None) -> Connection | None:
        try:
            if connection is None:
                connection = open_connection(self._settings)
                # A NOTIFY has a commit of its own, which need not wait for the disk.
                connection.execute("SET synchronous_commit = off")
            # Only where a watch has its ear to it (see `Watch._listen`): a NOTIFY that nobody hears
            # would cost all processes that write.
            rung = connection.execute(
                "SELECT pg_notify(%(bell)s, '')"
                " WHERE NOT pg_try_advisory_xact_lock(-1, hashtext(%(bell)s))",
                {"bell": bell_name(self._settings.schema)},
            )
            self._is_heard = rung.rowcount > 0
        except (psycopg.Error, IndelibleError) as error:
            _log.debug("the doorbell did not ring (%s): readers poll", error)
            if connection is not None:
                connection.close()
            return None
        return connection


class Sleeper(Protocol):
    """Who is to be woken when the head has moved; called in the thread of the watch."""

    def __call__(self) -> None:
        """Wake up. Must return at once."""


class Watch:
    """Looks at the head on behalf of all readers of a store, and wakes them when it has moved.

    Args:
        settings: how to reach the store.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Reentrant: the garbage collector may end a subscription, which leaves, at any point.
        self._guard = threading.RLock()
        self._sleepers: dict[object, Sleeper] = {}
        self._thread: threading.Thread | None = None
        self._told_about_listen = False
        self._closing = threading.Event()
        self.head = 0
        """The highest head seen so far."""
        self.problem: IndelibleError | None = None
        """Why the watch has ended, where that does not pass by itself."""

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        return self._closing.is_set()

    def join(self, key: object, sleeper: Sleeper) -> None:
        """Wake somebody from now on, whenever the head has moved."""
        with self._guard:
            self._sleepers[key] = sleeper
            self.problem = None
            if self._thread is None and not self.is_closed:
                self._thread = _start(self._run, "indelible-watch")

    def leave(self, key: object) -> None:
        """Wake somebody no longer."""
        with self._guard:
            self._sleepers.pop(key, None)

    def close(self) -> bool:
        """Begin to end, waking everybody; return whether a bell has to wake the watch itself."""
        with self._guard:
            self._closing.set()
            thread = self._thread
        self._wake()
        return thread is not None and thread.is_alive()

    def wait_closed(self) -> None:
        """Wait until it has ended."""
        with self._guard:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)

    def _wake(self) -> None:
        with self._guard:
            sleepers = list(self._sleepers.values())
        for wake in sleepers:
            wake()

    def _run(self) -> None:
        retries = Retries()
        while True:
            try:
                with open_connection(self._settings) as connection:
                    self._watch(connection, retries)
                return
            except PASSING as error:
                problem: IndelibleError = error
            except psycopg.Error as error:
                problem = translate(error, self._settings)
            except IndelibleError as error:
                problem = error
            if self.is_closed:
                return
            if not isinstance(problem, PASSING):
                with self._guard:
                    self.problem, self._thread = problem, None
                self._wake()
                return
            pause = retries.next_pause()
            _log.warning("the log cannot be watched (%s); trying again in %.2f s", problem, pause)
            self._closing.wait(pause)

    def _watch(self, connection: Connection, retries: Retries) -> None:
        connection.prepare_threshold = None  # behind a pooler the session is not ours
        engine = BoundEngine(connection, self._settings)
        longest = _LONGEST_POLL if self._listen(connection) else _LONGEST_POLL_ALONE
        pause = _SHORTEST_POLL
        needed_at = moved_at = time.monotonic()
        while not self.is_closed:
            found = engine.run(head())
            retries.succeed()
            now = time.monotonic()
            if found > self.head:
                self.head, moved_at, pause = found, now, _SHORTEST_POLL
                self._wake()
            elif now - moved_at > _HELD_TOO_LONG:
                moved_at = now
                self._warn_if_held(engine)
            with self._guard:
                if self._sleepers:
                    needed_at = now
                elif now - needed_at > _LINGER:
                    self._thread = None
                    return
            if any(connection.notifies(timeout=pause, stop_after=1)):
                # What the bell tells of may stand behind a slower writer: soon to be settled.
                pause = _SHORTEST_POLL
            else:
                pause = min(pause * 2, longest)

    def _listen(self, connection: Connection) -> bool:
        """Listen for the bell; return whether it is heard (behind some poolers it never is)."""
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        if not speaks_to_the_server(connection.info.backend_pid, row):
            return self._tell_about_listen()
        bell, token = bell_name(self._settings.schema), str(uuid4())
        connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(bell)))
        # What tells the doorbells that somebody listens, as long as this session lasts.
        connection.execute("SELECT pg_advisory_lock_shared(-1, hashtext(%s))", [bell])
        connection.execute("SELECT pg_notify(%s, %s)", [bell, token])
        deadline = time.monotonic() + _LISTEN_TEST
        while (left := deadline - time.monotonic()) > 0:
            for notify in connection.notifies(timeout=left, stop_after=1):
                if notify.payload == token:
                    return True
        return self._tell_about_listen()

    def _tell_about_listen(self) -> bool:
        if not self._told_about_listen:
            self._told_about_listen = True
            _log.warning(
                "LISTEN brings nothing here (a pooler in transaction mode?): readers look for new"
                " events every %g ms instead",
                _LONGEST_POLL_ALONE * 1000,
            )
        return False

    def _warn_if_held(self, engine: BoundEngine) -> None:
        found = engine.run(head_info())
        if found.waiting and found.holders:
            _log.warning(
                "the head stands at position %d, and events wait behind it (%d): %s",
                found.head,
                found.waiting,
                "; ".join(map(str, found.holders)),
            )


class Wakeup:
    """The doorbell and the watch of one store.

    Args:
        settings: how to reach the store.
    """

    def __init__(self, settings: Settings) -> None:
        self.doorbell = Doorbell(settings)
        self.watch = Watch(settings)

    def close(self) -> None:
        """End both. Closing twice is allowed."""
        if self.watch.close():
            self.doorbell.ring()
        self.doorbell.close()
        self.watch.wait_closed()


def _start(run: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
