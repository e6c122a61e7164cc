"""Watch the head (LISTEN and polling), and wake the readers that wait for it."""

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
from indelible.streams.head import HeadState, head_info, note_settled

from .notifier import UNHEARD_PAUSE, CommitNotifier, notification_channel
from .tail import Tail, look

_SHORTEST_POLL = 0.005
_LONGEST_POLL = 0.5
_LONGEST_POLL_ALONE = 0.1
"""Seconds between two polls of the head without a notification: after the first poll in vain, and
at most, with and without LISTEN."""
_POLL_AFTER_MOVE = 0.02
"""The same after a poll that found a new head: later commits mostly send a notification."""
_SHORTEST_GAP = 0.001
_LONGEST_GAP = 0.05
"""Seconds between two polls in vain despite notifications: at first, and after several."""
_COST = 3
"""The pause before the next poll, at most, as a multiple of the time that the last poll took."""
_CHEAP = 0.001
"""Seconds that a poll takes at most if the pause after it may be shorter: after a poll that found
one event, as long as the poll."""
_LISTEN_TEST = 1.0
_LINGER = 5.0
"""Seconds for which the watch continues to listen after the last reader has left."""
_NOTE_PAUSE = 1.0
"""Seconds between two writes of the settled position while the log grows."""
_HELD_TOO_LONG = 10.0
"""Seconds after which a warning about a head that does not advance is logged."""

_BACKOFF = Backoff()

_log = logging.getLogger("indelible")


class Listener(Protocol):
    """A callback for when the head has moved; called in the thread of the watch."""

    def __call__(self) -> None:
        """Wake the reader. It must return at once."""


class HeadWatcher:
    """Polls the head for all readers of a store, and wakes them when it has moved.

    Args:
        control: the control connection.
        settings: how to reach the store.
    """

    def __init__(self, control: ControlConnection, settings: Settings) -> None:
        self._control = control
        self._channel = notification_channel(settings.schema)
        self.leases: Leases = Leases(control)
        """The leases of the workers that it wakes."""
        self._sleepers: dict[object, Listener] = {}
        self._followers: set[object] = set()
        self._needed_at = self._unheard_until = 0.0
        self._session: Session | None = None  # the session that listens
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
        """The highest head seen so far in the current epoch; None before the first poll."""
        self.tail: Tail | None = None
        """The events before that head, if a reader follows the log and they are few."""
        self._noted, self._noted_at = 0, -inf
        self.problem: IndelibleError | None = None
        """The permanent error that ended the watch; None while it runs."""

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        return self._control.is_closed

    def raise_what_ended(self) -> None:
        """Raise the error that ended the watch, if one did."""
        if self.is_closed:
            raise StoreClosed
        if self.problem is not None:
            raise self.problem

    def join(self, key: object, sleeper: Listener, *, follows: bool = False) -> None:
        """Add a reader: wake it whenever the head has moved.

        Args:
            key: identifies the reader.
            sleeper: wakes it.
            follows: whether it takes the next events from `tail`.

        Raises:
            DatabaseUnreachable: the thread of the watch cannot be started.
            StoreForked: the store was opened before a fork.
        """
        self._control.check_origin()
        with self._control.guard:
            if not self._sleepers or self.problem is not None:
                self._looked_at, self.problem = -inf, None
                self._moved_at = time.monotonic()
            self._sleepers[key] = sleeper
            if follows:
                self._followers.add(key)
        try:
            self._control.wake_by(self.due_at())
        except IndelibleError:
            self.leave(key)
            raise

    def leave(self, key: object) -> None:
        """Remove a reader."""
        if not self._control.is_here:  # in a forked child the guard may never be released
            return
        with self._control.guard:
            self._sleepers.pop(key, None)
            self._followers.discard(key)
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
        """Return when to poll, or to stop listening."""
        if not self._sleepers:
            return self._needed_at + _LINGER if self._session is not None else inf
        if self.problem is not None:
            return inf
        return self._looked_at + (self._gap if self._is_notified else self._pause)

    def begin(self, session: Session) -> None:
        """Do nothing on a new connection until a reader joins."""
        self._session = None

    def lose(self) -> None:
        """Poll and listen again on the next connection: it may be to another server."""
        self._session = None
        self._looked_at = -inf
        self._noted = 0

    def act(self, session: Session) -> None:
        """Poll the head, and wake all readers if it has moved."""
        if not self._sleepers:
            self._end_listening(session)
            return
        if self._session is None:
            self._begin_listening(session)
        self._look(session)

    def _look(self, session: Session) -> None:
        was_notified, self._is_notified = self._is_notified, False
        begun_at = time.monotonic()
        state, tail = session.run(look(self.state if self._followers else None))
        self._failures = 0
        self._looked_at = time.monotonic()
        # Bounds the growth: the cost of a poll counts, and not the time that the machine was busy.
        self._cost = min(self._looked_at - begun_at, 1.25 * self._cost)
        if self._is_news(state):
            self._gap = self._cost * self._load(state)
            self.tail, self.state, self._moved_at = tail, state, self._looked_at
            self._pause = _POLL_AFTER_MOVE
            self.wake()
        elif was_notified:
            # The commit may wait behind a slower writer. It will be settled soon.
            self._gap = min(max(2 * self._gap, _SHORTEST_GAP), _LONGEST_GAP)
            self._pause = max(_SHORTEST_POLL, self._gap)
        else:
            self._pause = min(max(2 * self._pause, _SHORTEST_POLL), self._longest)
        if self._looked_at < self._unheard_until:
            self._pause = min(self._pause, _SHORTEST_POLL)
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

    def _load(self, state: HeadState) -> int:
        """Return the pause before the next poll, in multiples of the time that this one took."""
        if self.state is None or self._cost > _CHEAP:
            return _COST
        return min(max(state.position - self.state.position, 1), _COST)

    def fail(self, problem: IndelibleError) -> None:
        """Poll later after a transient error; otherwise end all readers."""
        if isinstance(problem, TRANSIENT_ERRORS):
            self._looked_at = time.monotonic()
            self._failures += 1
            self._gap = self._pause = _BACKOFF.delay(self._failures)
            _log.warning("the log cannot be watched (%s); retrying in %.2f s", problem, self._pause)
        else:
            self.problem = problem
            self.wake()

    def _begin_listening(self, session: Session) -> None:
        session.listens = session.is_direct and self._is_heard(session)
        self._longest = _LONGEST_POLL if session.listens else _LONGEST_POLL_ALONE
        if not (session.listens or self._told_about_listen):
            self._told_about_listen = True
            _log.warning(
                "LISTEN does not work on this connection (a pooler in transaction mode?): readers"
                " poll for new events every %g ms instead",
                _LONGEST_POLL_ALONE * 1000,
            )
        self._session = session
        # Until then a process may not notify, because it has found that no session listens.
        self._unheard_until = time.monotonic() + UNHEARD_PAUSE

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
            "open transactions hold the head at position %d, events wait behind it (%d): %s",
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
        """Send a pending notification, wake all readers, and end. Closing twice is allowed."""
        if not self._control.is_here:
            return
        self.notifier.hurry()
        self._control.close()
        self.watch.wake()
