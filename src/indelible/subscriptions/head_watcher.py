"""Watch the head (LISTEN and polling), and wake who waits for it."""

from __future__ import annotations

import logging
import time
from math import inf
from typing import Protocol
from uuid import uuid4

from indelible.core.retry import TRANSIENT_ERRORS, Backoff
from indelible.errors import IndelibleError, StoreClosed
from indelible.postgres.control_connection import ControlConnection, Session
from indelible.postgres.lease_renewal import Leases
from indelible.postgres.settings import Settings
from indelible.streams.head import HeadState, head_info, head_state, note_settled

from .notifier import CommitNotifier, notification_channel

_SHORTEST_POLL = 0.005
_LONGEST_POLL = 0.5
_LONGEST_POLL_ALONE = 0.1
"""Seconds between two looks at the head without a notification: after one that brought nothing, and
at most with and without LISTEN."""
_POLL_AFTER_MOVE = 0.02
"""The same after a look that found something: later commits mostly send a notification."""
_SHORTEST_GAP = 0.001
_LONGEST_GAP = 0.05
"""Seconds between two looks at the head despite notifications: at first, and after some in vain."""
_COST = 3
"""How many times as long as a look took the watch waits before the next one."""
_LISTEN_TEST = 1.0
_LINGER = 5.0
"""Seconds after the last reader for which the watch listens on."""
_NOTE_PAUSE = 1.0
"""Seconds between two notes of the settled position, while the log grows."""
_HELD_TOO_LONG = 10.0
"""After how many seconds of a head that is held back a warning is logged."""

_BACKOFF = Backoff()

_log = logging.getLogger("indelible")


class Listener(Protocol):
    """Who is to be woken when the head has moved; called in the thread of the watch."""

    def __call__(self) -> None:
        """Wake up. Must return at once."""


class HeadWatcher:
    """Looks at the head on behalf of all readers of a store, and wakes them when it has moved.

    Args:
        control: the control connection.
        settings: how to reach the store.
    """

    def __init__(self, control: ControlConnection, settings: Settings) -> None:
        self._control = control
        self._channel = notification_channel(settings.schema)
        self.leases: Leases = Leases(control)
        """The leases of those that it wakes."""
        self._sleepers: dict[object, Listener] = {}
        self._needed_at = 0.0
        self._session: Session | None = None  # where it listens
        self._token = ""
        self._hears_itself = False
        self._longest = _LONGEST_POLL
        self._told_about_listen = False
        self._is_notified = False
        self._looked_at, self._moved_at = -inf, 0.0
        self._gap = self._pause = 0.0
        self._cost = _SHORTEST_GAP
        self._failures = 0
        self.state: HeadState | None = None
        """The highest head seen so far in the epoch of today; None before the first look."""
        self._noted, self._noted_at = 0, -inf
        self.problem: IndelibleError | None = None
        """Why nobody looks any more, where that does not pass by itself."""

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        return self._control.is_closed

    def raise_what_ended(self) -> None:
        """Raise why nobody looks any more, where that is so."""
        if self.is_closed:
            raise StoreClosed
        if self.problem is not None:
            raise self.problem

    def join(self, key: object, sleeper: Listener) -> None:
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
        return self._looked_at + (self._gap if self._is_notified else self._pause)

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
        was_notified, self._is_notified = self._is_notified, False
        begun_at = time.monotonic()
        state = session.run(head_state())
        self._failures = 0
        self._looked_at = time.monotonic()
        # What a look costs, and not for how long the machine was busy with other things.
        self._cost = min(self._looked_at - begun_at, 1.25 * self._cost)
        if self._is_news(state):
            self.state, self._moved_at = state, self._looked_at
            self._gap = max(_SHORTEST_GAP, _COST * self._cost)
            self._pause = _POLL_AFTER_MOVE
            self.wake()
        elif was_notified:
            # The commit may be behind a slower writer: it is soon settled.
            self._gap = min(max(2 * self._gap, _SHORTEST_GAP), _LONGEST_GAP)
            self._pause = max(_SHORTEST_POLL, self._gap)
        else:
            self._pause = min(max(2 * self._pause, _SHORTEST_POLL), self._longest)
        self._pause = max(self._pause, _COST * self._cost)
        if state.position > self._noted and self._looked_at - self._noted_at > _NOTE_PAUSE:
            session.run(note_settled())
            self._noted, self._noted_at = state.position, self._looked_at
        if self._looked_at - self._moved_at > _HELD_TOO_LONG:
            self._moved_at = self._looked_at
            _warn_if_held(session)

    def _is_news(self, state: HeadState) -> bool:
        before = self.state
        return before is None or state.position > before.position or state.epoch != before.epoch

    def fail(self, problem: IndelibleError) -> None:
        """Look later where it passes by itself; else end all readers."""
        if isinstance(problem, TRANSIENT_ERRORS):
            self._looked_at = time.monotonic()
            self._failures += 1
            self._gap = self._pause = _BACKOFF.delay(self._failures)
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
        """Listen; return whether notifications arrive."""
        self._hears_itself, self._token = False, str(uuid4())
        session.listen(self._channel, self._take)
        session.notify(self._channel, self._token)
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
            session.unlisten(self._channel)

    def _take(self, payload: str) -> None:
        if payload == self._token:
            self._hears_itself = True
        else:
            self._is_notified = True


def _warn_if_held(session: Session) -> None:
    info = session.run(head_info())
    if info.waiting and info.holders:
        _log.warning(
            "the head stands at position %d, and events wait behind it (%d): %s",
            info.head,
            info.waiting,
            "; ".join(map(str, info.holders)),
        )


class Wakeup:
    """The commit notifier, the watch and the leases of one store, on its control connection.

    Args:
        settings: how to reach the store.
    """

    def __init__(self, settings: Settings) -> None:
        self._control = ControlConnection(settings)
        self.notifier: CommitNotifier = CommitNotifier(self._control, settings)
        self.watch: HeadWatcher = HeadWatcher(self._control, settings)
        self._control.serve(self.watch.leases, self.notifier, self.watch)

    def close(self) -> None:
        """Send a pending notification, wake all, and end. Closing twice is allowed."""
        if not self._control.is_here:
            return
        self.notifier.hurry()
        self._control.close()
        self.watch.wake()
