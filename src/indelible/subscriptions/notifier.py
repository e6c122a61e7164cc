"""Notify other processes after a commit (NOTIFY), throttled."""

from __future__ import annotations

import logging
import time
from math import inf

from indelible.core.operation import Operation, Statement
from indelible.errors import IndelibleError
from indelible.postgres.control_connection import ControlConnection, Session
from indelible.postgres.settings import Settings

_RING_PAUSE = 0.003
_UNHEARD_PAUSE = 0.1
"""Seconds between two rings, where somebody listens and where nobody does."""

_log = logging.getLogger("indelible")


def notification_channel(schema: str) -> str:
    """The NOTIFY channel of a store."""
    return f"indelible_{schema}"


class CommitNotifier:
    """Tells the watches of all processes that something was committed.

    Args:
        control: the control connection.
        settings: how to reach the store.
    """

    def __init__(self, control: ControlConnection, settings: Settings) -> None:
        self._control = control
        self._bell = notification_channel(settings.schema)
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

    def _tell(self, *, listens: bool) -> Operation[bool]:
        rows = yield Statement("subscriptions.notify", {"bell": self._bell, "listens": listens})
        return bool(rows)
