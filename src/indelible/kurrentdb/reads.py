"""The method that reads: a stream or the log, to its end or for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

from indelible.events import RecordedEvent
from indelible.streams.recorded_time import LAST_POSITION

from .appends import STREAMS
from .content import content_of
from .expected import revision_of
from .failures import bad_argument, invalid_position
from .filters import Filter
from .methods import Call, Kind, Method
from .proto import streams_pb2 as messages
from .proto.streams_pb2 import ReadAnswer, ReadEvent, ReadRequest
from .served_store import ServedStore
from .subscriptions import follow_log, follow_stream
from .truncation import truncation_of
from .wire import END, identifier, stream_name, ticks, uuid_message


def methods(served: ServedStore) -> list[Method]:
    """Return the method that reads."""
    return [
        Method(
            STREAMS,
            "Read",
            Kind.SERVER_STREAM,
            ReadRequest,
            Reads(served).read,
            ("position", "events"),
        )
    ]


class Reads:
    """The method that reads.

    Args:
        served: the store.
    """

    def __init__(self, served: ServedStore) -> None:
        self._served = served

    async def read(self, call: Call, request: ReadRequest) -> AsyncIterator[ReadAnswer]:
        """Read a stream or the log, or subscribe to it."""
        options = request.options
        source, amount = options.WhichOneof("source"), options.WhichOneof("amount")
        form = options.uuid_option.WhichOneof("form")
        if source is None or amount is None or form is None:
            missing = "stream or all" if source is None else "count or subscription"
            raise bad_argument(f"the options of a read need {missing if form else 'uuid_option'}")
        writing = Writing(form == "structured")
        if amount == "subscription" and options.read_direction != ReadRequest.FORWARDS:
            raise bad_argument("a subscription reads forwards only")
        if source == "stream":
            name = stream_name(options.stream.stream_identifier)
            if amount == "subscription":
                answers = follow_stream(self._served, writing.answer, name, options)
            else:
                answers = self._read_stream(writing, name, options)
        else:
            selected = Filter.of(options)
            if amount == "subscription":
                answers = follow_log(self._served, writing.answer, options, selected)
            else:
                answers = self._read_log(writing, options, selected)
        if amount == "subscription":
            yield ReadAnswer(confirmation=ReadAnswer.Confirmation(subscription_id=str(uuid4())))
        async for answer in answers:
            yield answer

    async def _read_stream(
        self, writing: Writing, name: str, options: ReadRequest.Options
    ) -> AsyncIterator[ReadAnswer]:
        store = self._served.store
        last = await revision_of(store, name)
        truncation = await truncation_of(store, name)
        if last < 0 or truncation.hides_all:
            yield ReadAnswer(
                stream_not_found=ReadAnswer.StreamNotFound(stream_identifier=identifier(name))
            )
            return
        is_backwards = options.read_direction == ReadRequest.BACKWARDS
        lowest = await truncation.first_kept(store, name, last)
        lower, upper = _bounds(options.stream, is_backwards=is_backwards, last=last)
        count = 0
        if lowest <= upper and lower <= upper:
            async for event in store.read(
                name,
                from_version=max(lower, lowest),
                to_version=upper,
                backwards=is_backwards,
                limit=min(options.count, LAST_POSITION),
            ):
                count += 1
                yield writing.answer(event)
        if options.control_option.compatibility >= 1:
            if not count and not is_backwards and lower != lowest:
                yield ReadAnswer(first_stream_position=last + 1 if lower > last else lowest)
            yield ReadAnswer(last_stream_position=last)

    async def _read_log(
        self, writing: Writing, options: ReadRequest.Options, selected: Filter | None
    ) -> AsyncIterator[ReadAnswer]:
        start = options.all
        is_backwards = options.read_direction == ReadRequest.BACKWARDS
        position: int | None = None
        if start.WhichOneof("start") == "position":
            position = start.position.commit_position
            if start.position.prepare_position > position:
                raise invalid_position()
            if position >= END:
                position = None if is_backwards else LAST_POSITION
            elif not await self._served.was_assigned(position):
                raise invalid_position()
        elif (start.WhichOneof("start") == "end") != is_backwards:
            return
        head = await self._served.settled_head()
        after, upto = 0, head
        if position is not None:
            after, upto = (0, min(position - 1, head)) if is_backwards else (position - 1, head)
        if upto <= max(after, 0):
            return
        try:
            query = None if selected is None else await selected.query_of(self._served.store)
        except LookupError:
            return
        # A pattern for names of streams is not in the query: events are counted here.
        is_counted_here = selected is not None and not selected.matches_all and query is None
        left = min(options.count, LAST_POSITION)
        if not left:
            return
        async for event in self._served.store.read_all(
            query,
            after=max(after, 0),
            as_of=upto,
            backwards=is_backwards,
            limit=None if is_counted_here else left,
        ):
            if is_counted_here and selected is not None and not selected.matches(event):
                continue
            yield writing.answer(event)
            left -= 1
            if not left:
                return


class Writing:
    """How events are written into answers.

    Args:
        is_structured: whether ids are two numbers, and not text.
    """

    def __init__(self, is_structured: bool) -> None:
        self._is_structured = is_structured

    def answer(self, event: RecordedEvent) -> ReadAnswer:
        """Return the answer with an event."""
        content = content_of(event)
        position = event.position
        return ReadAnswer(
            event=ReadEvent(
                event=messages.RecordedEvent(
                    id=uuid_message(event.id, is_structured=self._is_structured),
                    stream_identifier=identifier(event.stream),
                    stream_revision=event.version,
                    prepare_position=position,
                    commit_position=position,
                    metadata={
                        "type": event.type,
                        "created": ticks(event.recorded_at),
                        "content-type": content.content_type,
                    },
                    custom_metadata=content.metadata,
                    data=content.data,
                ),
                commit_position=position,
            )
        )


def _bounds(start: ReadRequest.StreamStart, *, is_backwards: bool, last: int) -> tuple[int, int]:
    """Return the lowest and the highest revision to read."""
    match start.WhichOneof("start"):
        case "revision":
            revision = min(start.revision, END)
        case "end":
            revision = last if is_backwards else END
        case _:
            revision = 0
    return (0, min(revision, last)) if is_backwards else (revision, last)
