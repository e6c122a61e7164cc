# Generated from rebuild_runner_async.py; do not edit.
"""Run a rebuild of a projection beside the build that serves."""

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
"""Seconds that a swap of an inline projection is tried for."""
_CUT_OVER_PAUSE = 1.0
"""Seconds between two tries, in which the appends that have queued up go first."""

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
    """Build a projection anew, side by side with all that have its code, until it serves."""
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
    """Bring a build to where it can serve, and have it serve; say whether it does.

    It does not where other transactions keep it from the swap; at the last try that is an error.
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
    """Run an operation, again and again where it fails for a reason that passes."""
    supervisor = StepSupervisor("a rebuild waits", _log)
    while True:
        with supervisor:
            return engine.run(make())
        engine.wait(supervisor.pause)


def _is_enough(found: RebuildProgress, upto: int, *, is_inline: bool) -> bool:
    """Whether the daemon has done its part.

    What stood in the log at the beginning is its work: by its policy events are left out, and a
    build may serve early, in the place of one that is far behind.
    """
    if is_inline:
        return found.is_done or (found.is_near and found.position >= upto)
    return found.is_done and found.position >= upto
