"""Several processes that serve: start them, start another for one that dies, stop them all."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

_PAUSE = 1.0
"""Seconds before another worker starts after one that has lived for less."""
_log = logging.getLogger("indelible.server")


def serve_by_workers(
    work: Callable[[Callable[[], None]], None], count: int, ready: Callable[[], None]
) -> bool:
    """Keep workers running until SIGTERM or Ctrl-C, and then wait until they have stopped.

    Args:
        work: what a worker does, until SIGTERM or until this process ends. It calls its argument
            when it serves. It must be picklable.
        count: how many workers there are.
        ready: called once, when all of them serve.

    Returns:
        Whether they served. If one ends before it serves for the first time, all are stopped.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy connections and locks
    inbox, outbox = context.Pipe(duplex=False)
    workers: dict[SpawnProcess, float] = {}
    is_stopping = False

    def start() -> None:
        worker = context.Process(target=_work, args=(work, outbox), daemon=True)
        worker.start()
        workers[worker] = time.monotonic()
        if is_stopping:  # the signal came before it was among the workers
            worker.terminate()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        is_stopping = True
        _terminate(workers)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for _ in range(count):
            start()
        awaited = count
        while workers:
            if inbox in wait([inbox, *(worker.sentinel for worker in workers)]):
                inbox.recv_bytes()
                awaited -= 1
                if awaited == 0:
                    ready()
            for worker, begun_at in list(workers.items()):
                if worker.exitcode is None:
                    continue
                del workers[worker]
                if is_stopping:
                    continue
                _log.error("a worker of the server ended", extra={"exit_code": worker.exitcode})
                if awaited > 0:
                    is_stopping = True
                    _terminate(workers)
                    continue
                if time.monotonic() - begun_at < _PAUSE:
                    time.sleep(_PAUSE)
                start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return awaited <= 0


def _terminate(workers: dict[SpawnProcess, float]) -> None:
    for worker in list(workers):
        worker.terminate()


def _work(work: Callable[[Callable[[], None]], None], outbox: Connection) -> None:
    work(lambda: outbox.send_bytes(b"ready"))
