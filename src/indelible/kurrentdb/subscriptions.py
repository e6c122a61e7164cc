"""Follow a stream or the log: what is stored, then what comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from indelible import Query
from indelible.events import RecordedEvent
from indelible.streams.recorded_time import LAST_POSITION

from .expected import revision_of
from .failures import invalid_position
from .filters import Filter
from .proto.streams_pb2 import ReadAnswer, ReadRequest
from .served_store import ServedStore
from .truncation import truncation_of
from .wire import END, now, position_message

Answer = Callable[[RecordedEvent], ReadAnswer]


async def follow_stream(
    served: ServedStore, answer: Answer, name: str, options: ReadRequest.Options
) -> AsyncIterator[ReadAnswer]:
    """Follow a stream after a revision. One that does not exist is waited for."""
    store = served.store
    head = await store.head()  # before the stream is looked at: what it lacks then comes after it
    last = await revision_of(store, name)
    revision = -1
    match options.stream.WhichOneof("start"):
        case "revision" if options.stream.revision < END:
            revision = options.stream.revision
        case "revision" | "end":
            revision = last
    truncation = await truncation_of(store, name)
    revision = max(revision, await truncation.first_kept(store, name, last) - 1)
    following = store.read(name, from_version=min(revision + 1, LAST_POSITION), limit=1)
    after = head
    async for event in following:
        after = event.position - 1
    seen = last
    is_live = False
    async with store.subscribe(Query(stream=name), after=after) as subscription:
        if subscription.is_caught_up:
            is_live = True
            yield _caught_up(revision=seen)
        async for batch in subscription.batches():
            for event in batch.events:
                seen = event.version
                if event.version > revision:
                    yield answer(event)
            if batch.is_caught_up and not is_live:
                is_live = True
                yield _caught_up(revision=seen)


async def follow_log(
    served: ServedStore, answer: Answer, options: ReadRequest.Options, selected: Filter | None
) -> AsyncIterator[ReadAnswer]:
    """Follow the log after a position.

    With a filter, checkpoints say how far it has looked: after so many events, matching or not, and
    at the end of what is stored.
    """
    start = options.all.WhichOneof("start")
    after: int | None = 0
    if start == "end":
        after = None
    elif start == "position":
        after = options.all.position.commit_position
        if options.all.position.prepare_position > after:
            raise invalid_position()
        if after >= END:
            after = None
        elif not await served.was_assigned(after):
            raise invalid_position()
    if after is None:
        after = await served.settled_head()
    marks = _Marks(selected, after)
    query = None if selected is None else selected.query
    is_live = False
    async with served.store.subscribe(query, after=after) as subscription:
        if subscription.is_caught_up:
            is_live = True
            yield _caught_up(position=after)
        async for batch in subscription.batches():
            for event in batch.events:
                if selected is None or selected.matches(event):
                    yield answer(event)
                if marks.pass_event(event.position, has_query=query is not None):
                    yield marks.answer(event.position)
            if query is not None and marks.pass_gap(batch.position):
                yield marks.answer(batch.position)
            if batch.is_caught_up and not is_live:
                is_live = True
                if selected is not None:
                    yield marks.answer(batch.position)
                yield _caught_up(position=batch.position)


class _Marks:
    """When the checkpoints of a subscription with a filter are due.

    Args:
        selected: the filter; None for no checkpoints.
        after: where the subscription starts.
    """

    def __init__(self, selected: Filter | None, after: int) -> None:
        self._interval = 0 if selected is None else selected.interval
        self._looked_at = 0
        self._last = after

    def pass_event(self, position: int, *, has_query: bool) -> bool:
        """Count an event; return whether a checkpoint is due. A query is counted by positions."""
        if not self._interval:
            return False
        if has_query:
            return self.pass_gap(position)
        self._looked_at += 1
        return self._looked_at >= self._interval

    def pass_gap(self, position: int) -> bool:
        """Return whether a checkpoint is due, since that many positions are passed."""
        return bool(self._interval) and position - self._last >= self._interval

    def answer(self, position: int) -> ReadAnswer:
        """Return a checkpoint, and count again from here."""
        self._looked_at, self._last = 0, position
        return ReadAnswer(
            checkpoint=ReadAnswer.Checkpoint(
                commit_position=position, prepare_position=position, timestamp=now()
            )
        )


def _caught_up(*, revision: int | None = None, position: int | None = None) -> ReadAnswer:
    progress = ReadAnswer.Progress(timestamp=now())
    if revision is not None and revision >= 0:
        progress.stream_revision = revision
    if position:
        progress.position.CopyFrom(position_message(position))
    return ReadAnswer(caught_up=progress)
