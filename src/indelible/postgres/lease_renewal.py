"""Leases that the control connection renews, beside the work that they are held for.

A worker shows that it is alive, and the control connection renews its lease: also while the worker
waits for a connection of the pool, reads a long page, or stands behind a blocked event loop. A
worker that hangs shows nothing, and its lease ends.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from math import inf

from indelible.core.operation import Operation, Statement
from indelible.errors import ConnectionLost, DatabaseUnreachable, IndelibleError

from .control_connection import ControlConnection, Session

_RENEWED_AFTER = 0.4
"""The part of a lease after which it is renewed: later than by a worker that renews it itself."""
_TRIED_AGAIN_AFTER = 0.1
_LEAST_PATIENCE = 3.0
"""Seconds that any worker may need for what it does between two signs of life, such as to wait in
vain for a connection of the pool, however short its lease is."""

_log = logging.getLogger("indelible")


@dataclass(frozen=True, slots=True)
class _Life:
    """A sign of life.

    Attributes:
        renewal: the statement that renews the lease: one row, whether it stands.
        seconds: how long the lease lasts from each renewal.
        until: up to when it is renewed without another sign.
    """

    renewal: Statement
    seconds: float
    until: float


class Lease:
    """A lease of a worker. Get one with `Leases.hold`.

    Args:
        name: what is held, for messages.
        control: the control connection.
    """

    def __init__(self, name: str, control: ControlConnection) -> None:
        self._name = name
        self._control = control
        self._life: _Life | None = None
        self._lost: Statement | None = None
        self._due_at = inf

    def is_lost(self, renewal: Statement | None) -> bool:
        """Whether others have taken over what a statement renews."""
        return renewal is not None and renewal == self._lost

    def show_life(
        self,
        renewal: Statement | None,
        *,
        seconds: float,
        pause: float = 0.0,
        renewed_at: float = -inf,
    ) -> None:
        """Have the lease renewed for its own length (3 seconds at least) and a pause, from now on.

        Then it runs out: so long after the last sign of life, and once its own length, a worker
        that hangs has lost it.

        Args:
            renewal: the statement that renews it; None where nothing is held.
            seconds: the length of the lease.
            pause: seconds until the worker means to show life again.
            renewed_at: when the worker itself renewed it.
        """
        if renewal is None:
            self._life = None
            return
        until = time.monotonic() + max(seconds, _LEAST_PATIENCE) + pause
        previous, self._life = self._life, _Life(renewal, seconds, until)
        if previous is None or previous.renewal != renewal:
            self._due_at = -inf
        self._due_at = max(self._due_at, renewed_at + seconds * _RENEWED_AFTER)
        try:
            self._control.wake_by(self._due_at)
        except DatabaseUnreachable as error:
            _log.warning("%s is not renewed beside the work: %s", self._name, error)

    def due_at(self) -> float:
        """When it is to be renewed next."""
        return inf if self._life is None else self._due_at

    def renew(self, session: Session) -> None:
        """Renew it, if its worker is alive."""
        life, now = self._life, time.monotonic()
        if life is None:
            return
        if now >= life.until:
            _log.warning("%s is no longer renewed: its worker shows no sign of life", self._name)
            self._forget(life)
            return
        self._due_at = now + life.seconds * _TRIED_AGAIN_AFTER  # if it fails
        is_held = session.run(_ask(life.renewal))
        self._due_at = now + life.seconds * _RENEWED_AFTER
        if not is_held:
            self._lost = life.renewal
            self._due_at = inf

    def _forget(self, life: _Life) -> None:
        if self._life is life:
            self._life = None


class Leases:
    """The leases of all workers of a store.

    Args:
        control: the control connection.
    """

    def __init__(self, control: ControlConnection) -> None:
        self._control = control
        self._held: dict[int, Lease] = {}

    def hold(self, name: str) -> Lease:
        """Get a lease for a worker, which shows life from now on, until it drops it.

        Args:
            name: what is held, for messages.
        """
        self._control.check_origin()
        lease = Lease(name, self._control)
        with self._control.guard:
            self._held[id(lease)] = lease
        return lease

    def drop(self, lease: Lease) -> None:
        """Renew a lease no longer. Dropping it twice is allowed."""
        if not self._control.is_here:
            return
        with self._control.guard:
            self._held.pop(id(lease), None)

    def due_at(self) -> float:
        """When the next one is to be renewed."""
        return min((lease.due_at() for lease in self._all()), default=inf)

    def begin(self, session: Session) -> None:
        """Need nothing of a new connection."""

    def act(self, session: Session) -> None:
        """Renew those whose time has come."""
        for lease in self._all():
            if lease.due_at() <= time.monotonic():
                try:
                    lease.renew(session)
                except (ConnectionLost, DatabaseUnreachable):
                    raise
                except IndelibleError as error:
                    _log.warning("a lease was not renewed, and is tried again: %s", error)

    def fail(self, problem: IndelibleError) -> None:
        """Have nothing to learn: each failure was."""

    def lose(self) -> None:
        """Go on with the next connection."""

    def _all(self) -> list[Lease]:
        with self._control.guard:
            return list(self._held.values())


def _ask(renewal: Statement) -> Operation[bool]:
    ((is_held,),) = yield renewal
    return bool(is_held)
