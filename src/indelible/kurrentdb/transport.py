"""Carry the methods over HTTP/2, with grpclib. Nothing else here knows that library."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import h2.config
from google.protobuf.message import DecodeError
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler
from grpclib.const import Status as GrpcStatus
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream
from h2.settings import SettingCodes

from indelible.errors import IndelibleError

from .failures import Failure, Status, bad_argument, failure_of, unavailable
from .methods import Call, Kind, Method

_log = logging.getLogger("indelible.kurrentdb")
_CARDINALITIES = {
    Kind.UNARY: Cardinality.UNARY_UNARY,
    Kind.SERVER_STREAM: Cardinality.UNARY_STREAM,
    Kind.CLIENT_STREAM: Cardinality.STREAM_UNARY,
    Kind.DUPLEX: Cardinality.STREAM_STREAM,
}


class Transport:
    """A server of methods.

    Args:
        methods: the methods.
        max_calls: the calls that a connection may have open.
        max_message_bytes: the largest message that the server takes.
    """

    def __init__(
        self, methods: Sequence[Method], *, max_calls: int, max_message_bytes: int
    ) -> None:
        self._is_stopping = asyncio.Event()
        service = _Service(methods, max_message_bytes, self._is_stopping)
        self._server = _Server([service], max_calls)
        self._service = service

    async def start(self, listening: socket.socket) -> None:
        """Take connections on a socket."""
        await self._server.start(sock=listening, backlog=2048)

    async def stop(self, grace: float) -> None:
        """Take no more calls, and end those that are open: clients try them again elsewhere.

        Args:
            grace: seconds that calls may take to end.
        """
        self._is_stopping.set()
        running = self._service.running
        for task, kind in running.items():
            if kind.sends_many:  # a subscription never ends by itself
                task.cancel()
        if running:
            await asyncio.wait([*running], timeout=grace)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait([*running], timeout=1)
        self._server.close()
        self._server.disconnect()
        await asyncio.sleep(0)  # the connections are closed in the next turn of the loop
        await self._server.wait_closed()


class _Server(Server):
    """A server whose connections may have many calls open."""

    def __init__(self, services: Any, max_calls: int) -> None:
        super().__init__(
            services,
            codec=_Bytes(),
            status_details_codec=_Details(),
            # Clients may be silent for hours: the server asks for no sign of life.
            config=Configuration(_keepalive_time=None),
        )
        self._max_calls = max_calls
        self._connected: set[_Protocol] = set()

    def disconnect(self) -> None:
        """Close the connections, once they have sent what is written."""
        for protocol in [*self._connected]:
            protocol.connection.close()

    def _protocol_factory(self) -> H2Protocol:
        made = super()._protocol_factory()
        return _Protocol(
            made.handler, made.config, made.h2_config, self._max_calls, self._connected
        )


class _Protocol(H2Protocol):
    def __init__(
        self,
        handler: Any,
        config: Configuration,
        h2_config: h2.config.H2Configuration,
        calls: int,
        connected: set[_Protocol],
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._calls = calls
        self._connected = connected

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connected.discard(self)
        super().connection_lost(exc)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # The libraries do it only for sockets that name their protocol, which those of a socket
        # from create_server() do not. Without it each answer waits 40 ms for an acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connected.add(self)
        self.connection._connection.update_settings(
            {SettingCodes.MAX_CONCURRENT_STREAMS: self._calls}
        )
        self.connection.flush()


class _Bytes(CodecBase):
    """Messages are made and read by the service, which knows what a malformed one ends with."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class _Details(StatusDetailsCodecBase):
    """Details of a status that are bytes already."""

    def encode(self, status: GrpcStatus, message: str | None, details: bytes) -> bytes:
        return details

    def decode(self, status: GrpcStatus, message: str | None, data: bytes) -> bytes:
        return data


class _Service:
    def __init__(
        self, methods: Sequence[Method], max_message_bytes: int, stopping: asyncio.Event
    ) -> None:
        self._methods = methods
        self._max_message_bytes = max_message_bytes
        self._stopping = stopping
        self.running: dict[asyncio.Task[Any], Kind] = {}

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            method.path: Handler(self._serving(method), _CARDINALITIES[method.kind], bytes, bytes)
            for method in self._methods
        }

    def _serving(self, method: Method) -> Any:
        async def serve(stream: Stream[bytes, bytes]) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - grpclib makes one for each call
            self.running[task] = method.kind
            try:
                await self._serve(method, stream)
            except Failure as failure:
                await _end(stream, failure)
            except IndelibleError as error:
                await _end(stream, failure_of(error))
            except asyncio.CancelledError:
                if not self._stopping.is_set():
                    raise
                await _end(stream, unavailable())
            except TimeoutError:
                await _end(stream, Failure(Status.ABORTED, "Operation timed out"))
            except Exception as error:
                if _is_gone(error):
                    raise
                _log.exception("a call failed", extra={"method": method.path})
                await _end(stream, Failure(Status.ABORTED, "the server failed: see its log"))
            finally:
                del self.running[task]

        return serve

    async def _serve(self, method: Method, stream: Stream[bytes, bytes]) -> None:
        if self._stopping.is_set():
            raise unavailable()
        call = _call(stream)
        if method.kind.takes_many:
            await stream.send_initial_metadata()
            request: Any = self._requests(method, stream)
        else:
            request = await self._request(method, stream)
            if request is None:
                raise bad_argument("the request has no message")
        handled: Any = method.handle(call, request)
        if not method.kind.sends_many:
            await stream.send_message((await handled).SerializeToString())
            return
        async with aclosing(handled) as messages:
            async for message in messages:
                await stream.send_message(message.SerializeToString())
        if not stream._send_initial_metadata_done:
            await stream.send_initial_metadata()

    async def _requests(self, method: Method, stream: Stream[bytes, bytes]) -> AsyncIterator[Any]:
        while (message := await self._request(method, stream)) is not None:
            yield message

    async def _request(self, method: Method, stream: Stream[bytes, bytes]) -> Any:
        """Read a message; None at the end. The library would read one of any size."""
        try:
            prefix = await stream._stream.recv_data(5)
        except AssertionError as error:
            raise bad_argument("the message ends too early") from error
        if not prefix:
            return None
        is_compressed, size = struct.unpack(">?I", prefix)
        if is_compressed:
            raise Failure(Status.UNIMPLEMENTED, "the server takes no compressed messages")
        if size > self._max_message_bytes:
            raise Failure(
                Status.RESOURCE_EXHAUSTED,
                f"a message of {size:,} bytes is too large: the limit is"
                f" {self._max_message_bytes:,}",
            )
        try:
            data = await stream._stream.recv_data(size)
        except AssertionError as error:  # how the library tells it
            raise bad_argument("the message ends too early") from error
        if method.request is None:
            return data
        try:
            return method.request.FromString(data)
        except DecodeError as error:
            raise bad_argument(f"the message cannot be read: {error}") from error


async def _end(stream: Stream[bytes, bytes], failure: Failure) -> None:
    await stream.send_trailing_metadata(
        status=GrpcStatus(failure.status.value),
        status_message=failure.text,
        metadata={name: _header(value) for name, value in failure.facts.items() if value},
    )


def _header(text: str) -> str:
    """Return text for a trailer: what is not visible ASCII is percent-encoded."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return quote(text, safe=" !#$&'()*+,/:;=?@[]<>^`{|}\"\\")


def _call(stream: Stream[bytes, bytes]) -> Call:
    headers = {
        name: value for name, value in (stream.metadata or {}).items() if isinstance(value, str)
    }
    address = stream.peer.addr()
    left = None if stream.deadline is None else stream.deadline.time_remaining()
    return Call(
        headers,
        "" if address is None else f"{address[0]}:{address[1]}",
        None if left is None else time.monotonic() + left,
    )


def _is_gone(error: Exception) -> bool:
    """Whether an error says that the client has closed the call or the connection."""
    return isinstance(error, OSError) or type(error).__module__.startswith(("grpclib.", "h2."))
