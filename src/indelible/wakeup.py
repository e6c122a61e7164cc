"""How readers learn that there is something new: a doorbell, and a watch on the head.

NOTIFY takes a lock of the whole cluster at commit, so it stays out of the appending transaction: a
`Doorbell` rings after the commit, at most once per few milliseconds. A `Watch` is the one listener
and the one poller of a store, however many subscriptions it serves. What wakes a reader is never
trusted: it looks at the head, and it polls where no bell is heard.

Both are parts of the store's control connection, in the async face too.
"""

from __future__ import annotations

import logging
import time
from math import inf
from typing import Protocol
from uuid import uuid4

import psycopg

from .control_connection import ControlConnection, Session
from .errors import IndelibleError
from .leases import Leases
from .plan import Call, Plan
from .postgres import Settings
from .read import HeadState, head_info, head_state, note_settled
from .retries import PASSING, Retries

_RING_PAUSE = 0.003
_UNHEARD_PAUSE = 0.1
"""Seconds between two rings, where somebody listens and where nobody does."""
_SHORTEST_POLL = 0.005
_LONGEST_POLL = 0.5
_LONGEST_POLL_ALONE = 0.1
"""Seconds between two looks at the head without a bell: after one that brought nothing, and at most
with and without LISTEN."""
_POLL_AFTER_MOVE = 0.02
"""The same after a look that found something: what is behind it rings for itself, mostly."""
_SHORTEST_GAP = 0.001
_LONGEST_GAP = 0.05
"""Seconds between two looks at the head, whatever rings: at first, and after bells in vain."""
_COST = 3
"""How many times as long as a look took the watch waits before the next one."""
_LISTEN_TEST = 1.0
_LINGER = 5.0
"""Seconds after the last reader for which the watch listens on."""
_NOTE_PAUSE = 1.0
"""Seconds between two notes of the settled position, while the log grows."""
_HELD_TOO_LONG = 10.0
"""After how many seconds of a head that is held back a warning is logged."""

_log = logging.getLogger("indelible")


def bell_name(schema: str) -> str:
    """The NOTIFY channel of a store."""
    return f"indelible_{schema}"


class Doorbell:
    """Tells the watches of all processes that something was committed.

    Args:
        control: the control connection.
        settings: how to reach the store.
    """

    def __init__(self, control: ControlConnection, settings: Settings) -> None:
        self._control = control
        self._bell = bell_name(settings.schema)
        self._is_rung = False
        self._rung_at = -inf
        self._quiet_until = 0.0

    def ring(self) -> None:
        """Ring soon. Returns at once, and never fails: a bell not heard costs latency only."""
        # Not for ever: a signal may have interrupted whoever rang, before anybody was woken.
        if self._is_rung and time.monotonic() - self._rung_at < _UNHEARD_PAUSE:
            return
        self._is_rung, self._rung_at = True, time.monotonic()
        try:
            self._control.wake_by(self.due_at())
        except IndelibleError as error:
            self.fail(error)

    def hurry(self) -> None:
        """Ring at once for what is still to be told."""
        self._quiet_until = 0.0

    def due_at(self) -> float:
        """When to ring."""
        # Also where nothing was said yet: so whoever rings in the pause need wake nobody.
        if self._is_rung or time.monotonic() < self._quiet_until:
            return self._quiet_until
        return inf

    def begin(self, session: Session) -> None:
        """Need nothing of a new connection."""

    def act(self, session: Session) -> None:
        """Tell the other watches, where there are any."""
        if not self._is_rung:
            return
        # Taken back before it is told: what is committed after this rings again.
        self._is_rung = False
        is_heard = session.run(self._tell(listens=session.listens))
        self._quiet_until = time.monotonic() + (_RING_PAUSE if is_heard else _UNHEARD_PAUSE)

    def fail(self, problem: IndelibleError) -> None:
        """Leave it: readers poll."""
        self._is_rung = False
        self._quiet_until = time.monotonic() + _UNHEARD_PAUSE
        _log.debug("the doorbell did not ring (%s): readers poll", problem)

    def lose(self) -> None:
        """Leave it: readers poll."""
        self._is_rung = False

    def _tell(self, *, listens: bool) -> Plan[bool]:
        rows = yield Call("ring", {"bell": self._bell, "listens": listens})
        return bool(rows)


class Sleeper(Protocol):
    """Who is to be woken when the head has moved; called in the thread of the watch."""

    def __call__(self) -> None:
        """Wake up. Must return at once."""


class Watch:
    """Looks at the head on behalf of all readers of a store, and wakes them when it has moved.

    Args:
        control: the control connection.
        settings: how to reach the store.
    """

    def __init__(self, control: ControlConnection, settings: Settings) -> None:
        self._control = control
        self._bell = bell_name(settings.schema)
        self.leases = Leases(control)
        """The leases of those that it wakes."""
        self._sleepers: dict[object, Sleeper] = {}
        self._needed_at = 0.0
        self._session: Session | None = None  # where it listens
        self._token = ""
        self._hears_itself = False
        self._longest = _LONGEST_POLL
        self._told_about_listen = False
        self._is_rung = False
        self._looked_at, self._moved_at = -inf, 0.0
        self._gap = self._pause = 0.0
        self._cost = _SHORTEST_GAP
        self._retries = Retries()
        self.state: HeadState | None = None
        """The highest head seen so far in the epoch of today; None before the first look."""
        self._noted, self._noted_at = 0, -inf
        self.problem: IndelibleError | None = None
        """Why nobody looks any more, where that does not pass by itself."""

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        return self._control.is_closed

    def join(self, key: object, sleeper: Sleeper) -> None:
        """Wake somebody from now on, whenever the head has moved.

        Raises:
            DatabaseUnreachable: the thread that looks cannot be started.
            StoreForked: the store was opened before a fork.
        """
        self._control.check_origin()
        with self._control.guard:
            if not self._sleepers or self.problem is not None:
                self._looked_at, self.problem = -inf, None
                self._moved_at = time.monotonic()
            self._sleepers[key] = sleeper
        try:
            self._control.wake_by(self.due_at())
        except IndelibleError:
            self.leave(key)
            raise

    def leave(self, key: object) -> None:
        """Wake somebody no longer."""
        if not self._control.is_here:  # nobody is woken, and nobody would give back the guard
            return
        with self._control.guard:
            self._sleepers.pop(key, None)
            self._needed_at = time.monotonic()

    def wake(self) -> None:
        """Wake all."""
        with self._control.guard:
            sleepers = list(self._sleepers.values())
        for sleeper in sleepers:
            try:
                sleeper()
            except Exception:
                _log.exception("a reader could not be woken")

    def due_at(self) -> float:
        """When to look, or to listen no longer."""
        if not self._sleepers:
            return self._needed_at + _LINGER if self._session is not None else inf
        if self.problem is not None:
            return inf
        return self._looked_at + (self._gap if self._is_rung else self._pause)

    def begin(self, session: Session) -> None:
        """Need nothing of a new connection before there is a reader."""
        self._session = None

    def lose(self) -> None:
        """Look, and listen, on the next connection: it may lead to another server."""
        self._session = None
        self._looked_at = -inf
        self._noted = 0

    def act(self, session: Session) -> None:
        """Look at the head, and wake all if it has moved."""
        if not self._sleepers:
            self._end_listening(session)
            return
        if self._session is None:
            self._begin_listening(session)
        self._look(session)

    def _look(self, session: Session) -> None:
        was_rung, self._is_rung = self._is_rung, False
        begun_at = time.monotonic()
        found = session.run(head_state())
        self._retries.succeed()
        self._looked_at = time.monotonic()
        # What a look costs, and not for how long the machine was busy with other things.
        self._cost = min(self._looked_at - begun_at, 1.25 * self._cost)
        if self._is_news(found):
            self.state, self._moved_at = found, self._looked_at
            self._gap = max(_SHORTEST_GAP, _COST * self._cost)
            self._pause = _POLL_AFTER_MOVE
            self.wake()
        elif was_rung:
            # What the bell tells of may stand behind a slower writer: soon to be settled.
            self._gap = min(max(2 * self._gap, _SHORTEST_GAP), _LONGEST_GAP)
            self._pause = max(_SHORTEST_POLL, self._gap)
        else:
            self._pause = min(max(2 * self._pause, _SHORTEST_POLL), self._longest)
        self._pause = max(self._pause, _COST * self._cost)
        if found.position > self._noted and self._looked_at - self._noted_at > _NOTE_PAUSE:
            session.run(note_settled())
            self._noted, self._noted_at = found.position, self._looked_at
        if self._looked_at - self._moved_at > _HELD_TOO_LONG:
            self._moved_at = self._looked_at
            _warn_if_held(session)

    def _is_news(self, found: HeadState) -> bool:
        known = self.state
        return known is None or found.position > known.position or found.epoch != known.epoch

    def fail(self, problem: IndelibleError) -> None:
        """Look later where it passes by itself; else end all readers."""
        if isinstance(problem, PASSING):
            self._looked_at = time.monotonic()
            self._gap = self._pause = self._retries.next_pause()
            _log.warning(
                "the log cannot be watched (%s); trying again in %.2f s", problem, self._pause
            )
        else:
            self.problem = problem
            self.wake()

    def _begin_listening(self, session: Session) -> None:
        session.listens = session.is_direct and self._is_heard(session)
        self._longest = _LONGEST_POLL if session.listens else _LONGEST_POLL_ALONE
        if not (session.listens or self._told_about_listen):
            self._told_about_listen = True
            _log.warning(
                "LISTEN brings nothing here (a pooler in transaction mode?): readers look for new"
                " events every %g ms instead",
                _LONGEST_POLL_ALONE * 1000,
            )
        self._session = session

    def _is_heard(self, session: Session) -> bool:
        """Listen for the bell; return whether it is heard."""
        connection = session.connection
        connection.add_notify_handler(self._take)
        self._hears_itself, self._token = False, str(uuid4())
        connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self._bell)))
        # What tells the doorbells that somebody listens, as long as this session lasts.
        connection.execute("SELECT pg_advisory_lock_shared(-1, hashtext(%s))", [self._bell])
        connection.execute("SELECT pg_notify(%s, %s)", [self._bell, self._token])
        deadline = time.monotonic() + _LISTEN_TEST
        while time.monotonic() < deadline:
            if self._hears_itself:
                return True
            session.wait(deadline - time.monotonic())
        return False

    def _end_listening(self, session: Session) -> None:
        self._session = None
        session.listens = False
        if session.is_direct:
            session.connection.remove_notify_handler(self._take)
            session.connection.execute("UNLISTEN *")
            session.connection.execute(
                "SELECT pg_advisory_unlock_shared(-1, hashtext(%s))", [self._bell]
            )

    def _take(self, notify: psycopg.Notify) -> None:
        if notify.payload == self._token:
            self._hears_itself = True
        else:
            self._is_rung = True


def _warn_if_held(session: Session) -> None:
    found = session.run(head_info())
    if found.waiting and found.holders:
        _log.warning(
            "the head stands at position %d, and events wait behind it (%d): %s",
            found.head,
            found.waiting,
            "; ".join(map(str, found.holders)),
        )


class Wakeup:
    """The doorbell, the watch and the leases of one store, on its control connection.

    Args:
        settings: how to reach the store.
    """

    def __init__(self, settings: Settings) -> None:
        self._control = ControlConnection(settings)
        self.doorbell = Doorbell(self._control, settings)
        self.watch = Watch(self._control, settings)
        self._control.serve(self.watch.leases, self.doorbell, self.watch)

    def close(self) -> None:
        """Ring for what is still to be told, wake all, and end. Closing twice is allowed."""
        if not self._control.is_here:
            return
        self.doorbell.hurry()
        self._control.close()
        self.watch.wake()
