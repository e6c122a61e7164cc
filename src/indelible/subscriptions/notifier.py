"""Notify other processes after a commit (NOTIFY): at once, and throttled under load."""

from __future__ import annotations

import logging
import time
from math import inf

from indelible.core.operation import Operation, Statement
from indelible.errors import IndelibleError
from indelible.postgres.control_connection import ControlConnection, Session
from indelible.postgres.settings import Settings

_SHORTEST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.003
"""Seconds between two notifications if a session listens: at first, and when several commits in a
row had to wait for the next one."""
UNHEARD_PAUSE = 0.1
"""The same if no session listens."""

_log = logging.getLogger("indelible")


def notification_channel(schema: str) -> str:
    """Return the NOTIFY channel of a store."""
    return f"indelible_{schema}"


class CommitNotifier:
    """Notifies the watches of all processes after a commit.

    Args:
        control: the control connection.
        settings: how to reach the store.
    """

    def __init__(self, control: ControlConnection, settings: Settings) -> None:
        self._control = control
        self._channel = notification_channel(settings.schema)
        self._is_pending = False
        self._commits = 0
        self._notified_at = -inf
        self._pause = _SHORTEST_PAUSE
        self._quiet_until = 0.0

    def notify(self) -> None:
        """Notify soon. Return at once and never fail: a lost notification only adds latency."""
        self._commits += 1
        # Check the time, too: a signal may have interrupted a call before it woke the thread.
        if self._is_pending and time.monotonic() - self._notified_at < UNHEARD_PAUSE:
            return
        self._is_pending, self._notified_at = True, time.monotonic()
        try:
            self._control.wake_by(self.due_at())
        except IndelibleError as error:
            self.fail(error)

    def hurry(self) -> None:
        """Send a pending notification at once."""
        self._quiet_until = 0.0

    def due_at(self) -> float:
        """Return when to notify."""
        # Also without a pending notification, so that a call in the pause need not wake the thread.
        if self._is_pending or time.monotonic() < self._quiet_until:
            return self._quiet_until
        return inf

    def begin(self, session: Session) -> None:
        """Do nothing on a new connection."""

    def act(self, session: Session) -> None:
        """Notify the other watches, if there are any."""
        if not self._is_pending:
            return
        # Clear the flag before sending, so that a later commit notifies again.
        self._is_pending = False
        is_load, self._commits = self._commits > 1, 0
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) if is_load else _SHORTEST_PAUSE
        is_heard = session.run(self._tell(listens=session.listens))
        self._quiet_until = time.monotonic() + (self._pause if is_heard else UNHEARD_PAUSE)

    def fail(self, problem: IndelibleError) -> None:
        """Drop the pending notification and log the problem. Readers poll."""
        self._is_pending = False
        self._quiet_until = time.monotonic() + UNHEARD_PAUSE
        _log.debug("the notification of a commit was not sent (%s): readers poll", problem)

    def lose(self) -> None:
        """Drop the pending notification. Readers poll."""
        self._is_pending = False

    def _tell(self, *, listens: bool) -> Operation[bool]:
        rows = yield Statement(
            "subscriptions.notify", {"channel": self._channel, "listens": listens}
        )
        return bool(rows)
