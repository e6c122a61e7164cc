# Generated from rebuild_runner_async.py; do not edit.
"""Run a rebuild of a projection next to the serving build."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from indelible.core.concurrency import IS_ASYNC, Background
from indelible.core.operation import Operation
from indelible.core.retry import StepSupervisor
from indelible.core.worker_name import daemon_name
from indelible.postgres.engine import PoolEngine
from indelible.serialization.codec import Codec
from indelible.streams.head import head
from indelible.subscriptions.head_watcher import HeadWatcher

from . import rebuild, registry
from .assignment import PartitionCoordinator, sweep
from .daemon import Daemon
from .definition import ProjectionDefinition
from .processor import Projector
from .rebuild import RebuildProgress, Report
from .types import BuildInfo

_LOOK_PAUSE = 0.1
_LEASE = 10.0
_SWEEPS = 20
_PATIENCE = 30.0
"""Seconds during which the cut over of an inline projection is tried."""
_CUT_OVER_PAUSE = 1.0
"""Seconds between two tries, in which the appends that have queued up run."""

T = TypeVar("T")

_log = logging.getLogger("indelible.projections")


def rebuild_projection(
    engine: PoolEngine,
    watch: HeadWatcher,
    codec: Codec,
    described: ProjectionDefinition,
    report: Report,
    concurrency: int,
) -> None:
    """Rebuild a projection until the new build serves; daemons that have its code help."""
    described.check_variant(is_async=IS_ASYNC)
    build = engine.run(rebuild.begin(described))
    deadline = float("inf")
    while not _serve(
        engine,
        watch,
        codec,
        described,
        report,
        concurrency,
        build,
        is_last=time.monotonic() > deadline,
    ):
        deadline = min(deadline, time.monotonic() + _PATIENCE)
        engine.wait(_CUT_OVER_PAUSE)


def _serve(
    engine: PoolEngine,
    watch: HeadWatcher,
    codec: Codec,
    described: ProjectionDefinition,
    report: Report,
    concurrency: int,
    build: BuildInfo,
    *,
    is_last: bool,
) -> bool:
    """Catch up a build and cut over; return whether it serves.

    It does not serve if other transactions block the cut over. At the last try that is an error.
    """
    is_inline = build.lifecycle == "inline"
    duty = PartitionCoordinator([described], owner=daemon_name(), lease=_LEASE, only=build.id)
    daemon = Daemon(engine, watch, codec, duty, concurrency)
    stop = threading.Event()
    background = Background(partial(daemon.run, stop), name=f"rebuild-{described.name}")
    try:
        upto = _insist(engine, head)
        while background.is_running:
            found = _insist(engine, lambda: rebuild.look(described, build.id))
            report(found)
            if _is_enough(found, upto, is_inline=is_inline):
                break
            if build.id in duty.refused:
                raise duty.refused[build.id]
            is_tried = found.is_near and not (found.is_done or is_inline)
            if not (is_tried and _insist(engine, lambda: registry.cut_over(build.id))):
                background.join(_LOOK_PAUSE)
    finally:
        stop.set()
        background.join()
    background.raise_failure()
    if is_inline:
        with engine.transaction() as bound:
            seized = bound.run(rebuild.seize(codec, described, build.id, is_last=is_last))
            if seized is None:
                return False
            runs, upto = seized
            for run in runs:
                projector = Projector(bound, watch, run)
                while run.position < upto:
                    projector.step()
            bound.run(registry.cut_over(build.id))
    report(_insist(engine, lambda: rebuild.look(described, build.id)))
    for _ in range(_SWEEPS):
        if not _insist(engine, sweep):
            break
        engine.wait(_LOOK_PAUSE)
    return True


def _insist(engine: PoolEngine, make: Callable[[], Operation[T]]) -> T:
    """Run an operation, and retry it after transient errors."""
    supervisor = StepSupervisor("a rebuild waits", _log)
    while True:
        with supervisor:
            return engine.run(make())
        engine.wait(supervisor.pause)


def _is_enough(found: RebuildProgress, upto: int, *, is_inline: bool) -> bool:
    """Return whether the daemon has done its part.

    Its part is the events that were in the log at the beginning. Its error policy may skip events.
    A build may serve early if the build that it replaces is far behind.
    """
    if is_inline:
        return found.is_done or (found.is_near and found.position >= upto)
    return found.is_done and found.position >= upto
