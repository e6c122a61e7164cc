# Generated from handlers_async.py; do not edit.
"""Call the application's code of a projection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from indelible.core.cancellation import left_block
from indelible.core.handlers import check_outcome
from indelible.events import RecordedEvent
from indelible.postgres.transaction import BoundEngine

from .definition import ProjectionDefinition


@contextmanager
def _failing(described: ProjectionDefinition, event: RecordedEvent | None) -> Iterator[None]:
    """Raise errors of the block as ProjectionFailed, with the projection and the event."""
    try:
        yield
    except BaseException as error:
        if left_block(error):
            raise
        raise described.failure(event, error) from error


def enrich(
    described: ProjectionDefinition, events: Sequence[RecordedEvent], engine: BoundEngine
) -> Sequence[Any]:
    """Call `enrich` for a batch, and return its result as arguments for handlers.

    Raises:
        ProjectionFailed: the projection failed.
    """
    if not described.enriches:
        return ()
    with _failing(described, None):
        return (described.projection.enrich(events, engine.lend()),)


def handle(
    described: ProjectionDefinition,
    events: Sequence[RecordedEvent],
    engine: BoundEngine | None,
) -> None:
    """Call the handlers of a projection that does I/O.

    Raises:
        ProjectionFailed: the projection failed.
    """
    given: tuple[Any, ...] = () if engine is None else (engine.lend(),)
    if described.takes_batches:
        with _failing(described, None):
            described.projection.project(events, *given)
        return
    if engine is not None:
        given += tuple(enrich(described, events, engine))
    for event in events:
        with _failing(described, event):
            handler = described.handlers[event.type]
            check_outcome(handler, handler(event, *given))
