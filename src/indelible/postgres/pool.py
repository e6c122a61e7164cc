"""The connection pool for threads."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock
from time import monotonic
from typing import Any

from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout
from psycopg_pool.pool import AddConnection, MaintenanceTask

from .connection import PooledConnection
from .forks import Origin

_PATIENCE = 0.05
"""Seconds after which a thread that waits for a connection has the pool checked again."""


class Loan:
    """A borrowed connection, or a request for one.

    Attributes:
        alive: a lock. The borrower holds it in a `with` block of its own frame while it uses the
            loan. Such a block always ends, so the lock is free once the borrower has stopped.
        held: the connection, while it is borrowed.
    """

    __slots__ = ("_refusal", "_woken", "alive", "held")

    def __init__(self) -> None:
        self.alive: Lock = Lock()
        self.held: list[PooledConnection] = []
        self._woken: Lock | None = None
        self._refusal: Exception | None = None

    def wait(self, seconds: float) -> bool:
        """Wait to be woken; return whether that happened in time.

        Raises:
            PoolClosed: the pool was closed.
        """
        is_woken = self._woken is not None and self._woken.acquire(timeout=seconds)
        if self._refusal is not None:
            raise self._refusal
        return is_woken

    def prepare_to_wait(self) -> None:
        """Prepare to be woken."""
        self._woken = Lock()
        self._woken.acquire()

    def wake(self) -> None:
        """End the wait."""
        if self._woken is not None:
            with suppress(RuntimeError):  # it was woken before
                self._woken.release()

    def fail(self, error: Exception) -> bool:
        """End the wait with an error; psycopg's pool calls this when it closes."""
        self._refusal = error
        self.wake()
        return True


class Pool(ConnectionPool[PooledConnection]):
    """A connection pool that lends the last returned connection first.

    Connections that are not needed stay idle, and are closed when they are too old.
    """

    _tasks: Any
    _waiting: deque[Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        self._origin = Origin()
        super().__init__(*args, **options)

    def __del__(self) -> None:
        if self._origin.is_here:  # a forked child lacks the threads that would release its locks
            super().__del__()

    def _start_workers(self) -> None:
        self._lent: set[Loan] = set()
        # Not psycopg's queue: an interrupted thread would keep its lock.
        self._tasks = SimpleQueue()
        super()._start_workers()

    def lend(self, loan: Loan, timeout: float) -> PooledConnection:
        """Lend a connection; requests are served in order.

        Args:
            loan: gets the connection; its borrower holds `loan.alive`.
            timeout: seconds to wait for a connection.

        Raises:
            PoolClosed: the pool is closed.
            PoolTimeout: no connection was free in time.
        """
        if self._closed:
            self._check_open_getconn()
        self._lent.add(loan)
        if self._waiting or not self._take(loan):
            self._wait(loan, timeout)
        return loan.held[0]

    def take_back(self, loan: Loan) -> None:
        """Take back the connection of a loan, if it has one."""
        for connection in loan.held:
            if not self._closed and not _is_fit(connection):
                # Not in a thread of the pool: a block of an interrupted thread may still be open,
                # and use the connection when it ends.
                connection.close()
                self.run_task(_Return(self, loan))
                break
            with suppress(IndexError):  # it was taken back before
                # One C call, as in `_take`.
                self._pool.extend(map(list.pop, (loan.held,)))
            if self._closed:
                self._close_idle()
            break
        self._lent.discard(loan)
        if self._waiting:
            self._wake()

    def check(self) -> None:
        """Have a thread of the pool test the idle connections."""
        self.run_task(_Check(self))

    def _take(self, loan: Loan) -> bool:
        # One C call takes the connection and records it: no signal handler can run in between.
        try:
            loan.held.extend(map(deque.pop, (self._pool,)))
        except IndexError:
            return False
        self._nconns_min = min(self._nconns_min, len(self._pool))
        return True

    def _wait(self, loan: Loan, timeout: float) -> None:
        deadline = monotonic() + timeout
        loan.prepare_to_wait()
        self._waiting.append(loan)
        try:
            is_attended = self._nconns >= self._max_size
            while not (self._is_first(loan) and self._take(loan)):
                if not is_attended:
                    self.run_task(_Attend(self))
                seconds_left = deadline - monotonic()
                if seconds_left <= 0:
                    raise PoolTimeout(f"couldn't get a connection after {timeout:.2f} sec")
                is_attended = loan.wait(min(seconds_left, _PATIENCE))
        finally:
            with suppress(ValueError):
                self._waiting.remove(loan)
            if self._waiting:
                self._wake()

    def _is_first(self, loan: Loan) -> bool:
        try:
            return self._waiting[0] is loan
        except IndexError:  # the pool was closed
            return False

    def _wake(self) -> None:
        """Wake the first waiting thread if a connection is free."""
        if self._pool:
            with suppress(IndexError):
                self._waiting[0].wake()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._pool.pop().close()

    # In threads of the pool, which no signal interrupts ----------------------------------------

    def _attend(self) -> None:
        """Take back the connections of borrowers that have ended; if none is free, grow."""
        for loan in self._waiting.copy():
            if not loan.alive.locked():
                with suppress(ValueError):
                    self._waiting.remove(loan)
        for loan in self._lent.copy():
            if not loan.alive.locked():
                self._lent.discard(loan)
                self._receive(loan)
        with self._lock:
            if self._waiting and not self._pool:
                self._maybe_grow_pool()
        self._wake()

    def _receive(self, loan: Loan) -> None:
        """Take back a connection; if it was left in the middle of work, replace it.

        This logs nothing: an interrupted thread may still hold the lock of a log handler.
        """
        with suppress(IndexError):
            connection = loan.held.pop()
            if _is_fit(connection):
                self._add_to_pool(connection)
            else:
                self._close_connection(connection)
                self.run_task(AddConnection(self))

    def _add_to_pool(self, conn: PooledConnection) -> None:
        conn._pool = None
        with self._lock:
            if self._closed:
                self._close_connection(conn)
                return
            self._pool.append(conn)
        self._wake()

    def _test_idle(self) -> None:
        with self._lock:
            self._maybe_grow_pool()
        for _ in range(len(self._pool)):
            try:
                connection = self._pool.popleft()
            except IndexError:  # other threads have borrowed the rest meanwhile
                return
            try:
                self.check_connection(connection)
            except Exception:
                self._close_connection(connection)
                self.run_task(AddConnection(self))
            else:
                self._add_to_pool(connection)


def _is_fit(connection: PooledConnection) -> bool:
    """Return whether the next borrower can use the connection as it is."""
    return (
        connection.pgconn.transaction_status == TransactionStatus.IDLE
        # The driver's own state, which an interruption may have left inconsistent.
        and not connection._num_transactions
        and not connection.lock.locked()
        and connection._expire_at > monotonic()
    )


class _Attend(MaintenanceTask):
    def _run(self, pool: Any) -> None:
        pool._attend()


class _Check(MaintenanceTask):
    def _run(self, pool: Any) -> None:
        pool._test_idle()


class _Return(MaintenanceTask):
    def __init__(self, pool: Pool, loan: Loan) -> None:
        super().__init__(pool)
        self._loan = loan

    def _run(self, pool: Any) -> None:
        pool._receive(self._loan)
