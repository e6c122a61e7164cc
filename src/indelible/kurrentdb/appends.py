"""The methods that append: one append a call, or any number in one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from indelible import IndelibleError, NewEvent
from indelible.events import ANY, NO_STREAM

from .content import new_event
from .expected import Expected, Written, WrongRevision, expected_of
from .failures import (
    Failure,
    Status,
    append_too_large,
    bad_argument,
    event_too_large,
    failure_of,
)
from .methods import Call, Kind, Method
from .proto.shared_pb2 import (
    BadRequest,
    MaximumAppendEventSizeExceeded,
    MaximumAppendSizeExceeded,
    Nothing,
    StreamDeleted,
    Uuid,
    WrongExpectedVersion,
)
from .proto.streams_pb2 import (
    AppendAnswer,
    AppendRequest,
    BatchAppendAnswer,
    BatchAppendRequest,
    BatchStatus,
    ProposedMessage,
)
from .served_store import ServedStore
from .settings import KurrentSettings
from .wire import NOTHING, identifier, position_message, stream_name, uuid_of

STREAMS = "event_store.client.streams.Streams"
_EMPTY = Empty()
_LARGEST = 2**64 - 1
_CODES = {  # of BatchAppend: not those of gRPC's calls
    "WrongExpectedVersion": Status.ALREADY_EXISTS,
    "StreamDeleted": Status.NOT_FOUND,
    "AccessDenied": Status.PERMISSION_DENIED,
    "Timeout": Status.DEADLINE_EXCEEDED,
    "MaximumAppendSizeExceeded": Status.INVALID_ARGUMENT,
    "MaximumAppendEventSizeExceeded": Status.INVALID_ARGUMENT,
    "BadRequest": Status.INVALID_ARGUMENT,
    "Unknown": Status.UNKNOWN,
}


def methods(served: ServedStore) -> list[Method]:
    """Return the methods that append."""
    appends = Appends(served)
    return [
        Method(STREAMS, "Append", Kind.CLIENT_STREAM, AppendRequest, appends.append),
        Method(
            STREAMS,
            "BatchAppend",
            Kind.DUPLEX,
            BatchAppendRequest,
            appends.batch_append,
            ("deadline_duration",),
        ),
    ]


class Proposal:
    """The events of an append, as they arrive.

    Args:
        settings: the settings with the limits.
    """

    def __init__(self, settings: KurrentSettings) -> None:
        self._settings = settings
        self._size = 0
        self.events: list[NewEvent] = []

    def add(self, message: ProposedMessage) -> None:
        """Add an event.

        Raises:
            Failure: the event cannot be stored, or it or the append is too large.
        """
        event_id = uuid_of(message.id)
        size = len(message.data) + len(message.custom_metadata)
        size += 2 * len(message.metadata.get("type", ""))
        self._size += size
        if size > self._settings.max_event_bytes:
            raise event_too_large(event_id, size, self._settings.max_event_bytes)
        if self._size > self._settings.max_append_bytes:
            raise append_too_large(self._settings.max_append_bytes)
        self.events.append(
            new_event(event_id, message.metadata, message.data, message.custom_metadata)
        )


class Appends:
    """The methods that append.

    Args:
        served: the store.
    """

    def __init__(self, served: ServedStore) -> None:
        self._served = served

    async def append(self, call: Call, requests: AsyncIterator[AppendRequest]) -> AppendAnswer:
        """Append the messages of a call to a stream, all or none."""
        first = await anext(requests, None)
        if first is None or first.WhichOneof("content") != "options":
            raise bad_argument("an append begins with its options")
        options = first.options
        stream = stream_name(options.stream_identifier)
        expected = expected_of(options.WhichOneof("expected"), options.revision)
        proposal = Proposal(self._served.settings)
        async for request in requests:
            if request.WhichOneof("content") != "proposed_message":
                raise bad_argument("after its options an append has events only")
            proposal.add(request.proposed_message)
        outcome = await self._served.append(stream, expected, proposal.events)
        match outcome:
            case Failure():
                raise outcome
            case Written():
                return AppendAnswer(success=_success(outcome))
        return AppendAnswer(wrong_expected_version=_wrong_version(outcome))

    async def batch_append(
        self, call: Call, requests: AsyncIterator[BatchAppendRequest]
    ) -> AsyncIterator[BatchAppendAnswer]:
        """Append many times in one call. Each append gets an answer when it is done.

        The next append does not wait for the last one, so that they share commits.
        """
        answers: asyncio.Queue[BatchAppendAnswer | BaseException | None] = asyncio.Queue()
        room = asyncio.Semaphore(self._served.settings.max_appends)
        taking = asyncio.create_task(self._take(requests, answers, room))
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
                room.release()  # a client that takes no answers begins no more appends
        finally:
            taking.cancel()
            await asyncio.wait([taking])

    async def _take(
        self,
        requests: AsyncIterator[BatchAppendRequest],
        answers: asyncio.Queue[BatchAppendAnswer | BaseException | None],
        room: asyncio.Semaphore,
    ) -> None:
        """Collect the messages of each append, and begin it when it is whole."""
        batches: dict[UUID, _Batch] = {}
        running: set[asyncio.Task[None]] = set()
        try:
            async for request in requests:
                correlation = uuid_of(request.correlation_id)
                batch = batches.get(correlation)
                if batch is None:
                    if len(batches) >= self._served.settings.max_appends:
                        raise Failure(
                            Status.RESOURCE_EXHAUSTED,
                            "too many appends of this call are unfinished",
                        )
                    batch = _Batch(request.correlation_id, Proposal(self._served.settings))
                    batches[correlation] = batch
                batch.add(request)
                if request.is_final:
                    del batches[correlation]
                    await room.acquire()
                    task = asyncio.create_task(self._run(batch, answers))
                    running.add(task)
                    task.add_done_callback(running.discard)
            if running:
                await asyncio.wait(running)
            answers.put_nowait(None)
        except Exception as error:
            answers.put_nowait(error)
        finally:
            for task in running:
                task.cancel()

    async def _run(
        self,
        batch: _Batch,
        answers: asyncio.Queue[BatchAppendAnswer | BaseException | None],
    ) -> None:
        try:
            outcome = await self._outcome(batch)
        except IndelibleError as error:
            outcome = failure_of(error)
        except Exception as error:
            answers.put_nowait(error)
            return
        if isinstance(outcome, Failure) and outcome.status == Status.UNAVAILABLE:
            answers.put_nowait(outcome)  # the client connects again, and repeats it
        else:
            answers.put_nowait(batch.answer(outcome))

    async def _outcome(self, batch: _Batch) -> Written | WrongRevision | Failure | None:
        if batch.failure is not None:
            return batch.failure
        left = batch.seconds_left
        if left is not None and left <= 0:
            return None
        try:
            async with asyncio.timeout(left):
                return await self._served.append(
                    batch.stream, batch.expected, batch.proposal.events
                )
        except TimeoutError:
            return None


@dataclass
class _Batch:
    """One append of a call with many."""

    correlation_id: Uuid
    proposal: Proposal
    options: BatchAppendRequest.Options | None = None
    stream: str = ""
    expected: Expected = ANY
    deadline: float | None = None
    failure: Failure | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the client gives up; None for no limit."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def add(self, request: BatchAppendRequest) -> None:
        """Add a message. What is wrong with it is the answer to the whole append."""
        try:
            if self.options is None:
                if not request.HasField("options"):
                    raise bad_argument("the first message of an append has its options")
                self.options = request.options
                self.stream = stream_name(self.options.stream_identifier)
                self.expected = expected_of(
                    self.options.WhichOneof("expected"), self.options.stream_position
                )
                self.deadline = _deadline(self.options)
            if self.failure is None:
                for message in request.proposed_messages:
                    self.proposal.add(message)
        except Failure as failure:
            self.failure = self.failure or failure

    def answer(self, outcome: Written | WrongRevision | Failure | None) -> BatchAppendAnswer:
        """Return the answer to the append; of None, that its time is over."""
        answer = BatchAppendAnswer(correlation_id=self.correlation_id)
        if self.options is not None:
            answer.stream_identifier.CopyFrom(self.options.stream_identifier)
            match self.options.WhichOneof("expected"):
                case "stream_position":
                    answer.stream_position = self.options.stream_position
                case None:
                    pass
                case choice:
                    getattr(answer, choice).CopyFrom(_EMPTY)
        match outcome:
            case Written(revision, position):
                _fill_success(answer.success, revision, position)
            case WrongRevision():
                _fill_error(answer, "WrongExpectedVersion", _wrong_version_details(outcome))
            case None:
                _fill_error(answer, "Timeout", None)
            case Failure():
                _fill_error(answer, *_details(outcome))
        return answer


def _deadline(options: BatchAppendRequest.Options) -> float | None:
    seconds: float
    match options.WhichOneof("deadline"):
        case "at":
            seconds = options.at.seconds + options.at.nanos / 1e9 - time.time()
        case "within":
            seconds = options.within.seconds + options.within.nanos / 1e9
        case _:
            return None
    return time.monotonic() + seconds


def _success(written: Written) -> AppendAnswer.Success:
    success = AppendAnswer.Success()
    if written.revision < 0:
        success.no_stream.CopyFrom(NOTHING)
    else:
        success.current_revision = written.revision
    if written.position is None:
        success.no_position.CopyFrom(NOTHING)
    else:
        success.position.CopyFrom(position_message(written.position))
    return success


def _fill_success(success: BatchAppendAnswer.Success, revision: int, position: int | None) -> None:
    if revision < 0:
        success.no_stream.CopyFrom(_EMPTY)
    else:
        success.current_revision = revision
    if position is None:
        success.no_position.CopyFrom(_EMPTY)
    else:
        success.position.CopyFrom(position_message(position))


def _wrong_version(wrong: WrongRevision) -> AppendAnswer.WrongVersion:
    message = AppendAnswer.WrongVersion()
    if wrong.actual < 0:
        message.current_no_stream.CopyFrom(NOTHING)
        message.old_no_stream.CopyFrom(NOTHING)
    else:
        message.current_revision = message.old_current_revision = wrong.actual
    match wrong.expected:
        case int(revision):
            message.expected_revision = message.old_expected_revision = revision
        case expected if expected is NO_STREAM:
            message.expected_no_stream.CopyFrom(NOTHING)
            message.old_expected_revision = _LARGEST
        case expected if expected is ANY:
            message.expected_any.CopyFrom(NOTHING)
            message.old_any.CopyFrom(NOTHING)
        case _:
            message.expected_stream_exists.CopyFrom(NOTHING)
            message.old_stream_exists.CopyFrom(NOTHING)
    return message


def _wrong_version_details(wrong: WrongRevision) -> WrongExpectedVersion:
    message = WrongExpectedVersion()
    if wrong.actual < 0:
        message.current_no_stream.CopyFrom(NOTHING)
    else:
        message.current_stream_revision = wrong.actual
    match wrong.expected:
        case int(revision):
            message.expected_stream_position = revision
        case expected if expected is NO_STREAM:
            message.expected_no_stream.CopyFrom(NOTHING)
        case expected if expected is ANY:
            message.expected_any.CopyFrom(NOTHING)
        case _:
            message.expected_stream_exists.CopyFrom(NOTHING)
    return message


def _details(failure: Failure) -> tuple[str, Message | None]:
    """Return the name and the details of a failure, as the answer of one append."""
    facts = failure.facts
    match failure.kind:
        case "stream-deleted":
            return "StreamDeleted", StreamDeleted(
                stream_identifier=identifier(facts["stream-name"])
            )
        case "access-denied":
            return "AccessDenied", None
        case "maximum-append-size-exceeded":
            limit = int(facts["maximum-append-size"])
            return "MaximumAppendSizeExceeded", MaximumAppendSizeExceeded(max_append_size=limit)
        case "maximum-append-event-size-exceeded":
            return "MaximumAppendEventSizeExceeded", MaximumAppendEventSizeExceeded(
                event_id=facts["event-id"],
                proposed_event_size=int(facts["proposed-append-event-size"]),
                max_append_event_size=int(facts["maximum-append-event-size"]),
            )
    if failure.status == Status.INVALID_ARGUMENT:
        return "BadRequest", BadRequest(message=failure.text)
    return "Unknown", None


def _fill_error(answer: BatchAppendAnswer, name: str, details: Message | None) -> None:
    """Write an error. The name of its details on the wire is not that of our message."""
    message = Nothing() if details is None else details
    any_message = AnyMessage(
        type_url=f"type.googleapis.com/event_store.client.{name}",
        value=message.SerializeToString(),
    )
    answer.error.CopyFrom(BatchStatus(code=_CODES[name], message=name, details=any_message))
