"""Renew the leases of workers on the control connection, while the workers work.

A worker reports that it is alive, and the control connection renews its lease. The renewal
continues while the worker waits for a pool connection or a blocked event loop, or reads a long
page. A worker that hangs reports nothing, and its lease expires.
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
"""The part of a lease after which it is renewed, later than a worker that renews its own lease."""
_TRIED_AGAIN_AFTER = 0.1
_LEAST_PATIENCE = 3.0
"""Seconds that any worker may need between two reports, however short its lease is. For example, it
may wait until a request for a pool connection times out."""

_log = logging.getLogger("indelible")


@dataclass(frozen=True, slots=True)
class _Life:
    """A report of a worker that it is alive.

    Attributes:
        renewal: the statement that renews the lease; its row says whether the worker still holds
            the lease.
        seconds: the length of the lease, from each renewal.
        until: the end of the renewals, on the monotonic clock, unless the worker reports again.
    """

    renewal: Statement
    seconds: float
    until: float


class Lease:
    """The lease of a worker; `Leases.hold` makes one.

    Args:
        name: the name of the lease, for messages.
        control: the control connection.
    """

    def __init__(self, name: str, control: ControlConnection) -> None:
        self._name = name
        self._control = control
        self._life: _Life | None = None
        self._lost: Statement | None = None
        self._due_at = inf

    def is_lost(self, renewal: Statement | None) -> bool:
        """Return whether another worker has taken over the lease that a statement renews."""
        return renewal is not None and renewal == self._lost

    def show_life(
        self,
        renewal: Statement | None,
        *,
        seconds: float,
        pause: float = 0.0,
        renewed_at: float = -inf,
    ) -> None:
        """Report that the worker is alive.

        From now on the lease is renewed for its own length (at least 3 seconds) plus the pause. If
        the worker does not report again, the lease then expires after its own length.

        Args:
            renewal: the statement that renews the lease; None if the worker holds nothing.
            seconds: the length of the lease.
            pause: seconds until the worker plans to report again.
            renewed_at: the time when the worker itself renewed the lease.
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
            _log.warning("%s cannot be renewed in the background: %s", self._name, error)

    def due_at(self) -> float:
        """Return when the lease must be renewed next."""
        return inf if self._life is None else self._due_at

    def renew(self, session: Session) -> None:
        """Renew the lease if its worker is alive."""
        life, now = self._life, time.monotonic()
        if life is None:
            return
        if now >= life.until:
            _log.warning("%s is no longer renewed: its worker does not respond", self._name)
            self._forget(life)
            return
        self._due_at = now + life.seconds * _TRIED_AGAIN_AFTER  # if the renewal fails
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
        """Make a lease for a worker, which must report that it is alive until it drops the lease.

        Args:
            name: the name of the lease, for messages.
        """
        self._control.check_origin()
        lease = Lease(name, self._control)
        with self._control.guard:
            self._held[id(lease)] = lease
        return lease

    def drop(self, lease: Lease) -> None:
        """Stop renewing a lease. Dropping it twice is allowed."""
        if not self._control.is_here:
            return
        with self._control.guard:
            self._held.pop(id(lease), None)

    def due_at(self) -> float:
        """Return when the next lease must be renewed."""
        return min((lease.due_at() for lease in self._all()), default=inf)

    def begin(self, session: Session) -> None:
        """Do nothing: a new connection needs no preparation."""

    def act(self, session: Session) -> None:
        """Renew the leases that are due."""
        for lease in self._all():
            if lease.due_at() <= time.monotonic():
                try:
                    lease.renew(session)
                except (ConnectionLost, DatabaseUnreachable):
                    raise
                except IndelibleError as error:
                    _log.warning("could not renew a lease, trying again: %s", error)

    def fail(self, problem: IndelibleError) -> None:
        """Do nothing: `act` has logged each failure."""

    def lose(self) -> None:
        """Do nothing: renewals continue on the next connection."""

    def _all(self) -> list[Lease]:
        with self._control.guard:
            return list(self._held.values())


def _ask(renewal: Statement) -> Operation[bool]:
    ((is_held,),) = yield renewal
    return bool(is_held)
