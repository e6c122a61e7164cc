"""Connections: HTTP/1.1 of uvicorn, with the limits that it does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .problems import MEDIA_TYPE, Problem
from .settings import ServerSettings

LARGEST_HEAD = 65_536
"""The limit of a request line with its headers, in bytes."""
_LINGER = 1.0
"""Seconds for which a refused client may read why."""


class Connection(HttpToolsProtocol):
    """A connection. It is closed if its client sends or reads too slowly, or too long a head.

    Args:
        settings: the settings of the server.
        stop: ends the subscriptions, when the server stops.
        **options: those of uvicorn.
    """

    def __init__(self, settings: ServerSettings, stop: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._stop = stop
        self.access_log = False  # whoever configures logging: it would write tickets
        self._settings = settings
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_size = 0
        self._stall_timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        most = self._settings.max_connections
        if len(self.connections) > most:
            problem = Problem(
                503,
                "too-many-connections",
                f"the server has {most:,} connections, which is the limit: try again later",
            )
            problem.headers["Retry-After"] = "1"
            self._refuse(problem)
        else:
            self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end_head()
        self._end_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._is_refused:
            return
        if self._head_timer is None and not self._is_busy:
            self._begin_head()
        super().data_received(data)
        if self._head_timer is not None:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD:
                self._refuse(
                    Problem(
                        431,
                        "head-too-large",
                        f"the request line and the headers are over the limit of {LARGEST_HEAD:,}"
                        " bytes",
                    )
                )

    def on_headers_complete(self) -> None:
        """Begin with a request."""
        self._end_head()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        if self._is_busy:
            self.transport.abort()  # the answer to an earlier request is on its way
        else:
            self._refuse(Problem(400, "bad-request", "the request is not valid HTTP/1.1"))

    def pause_writing(self) -> None:
        """Wait until the client has read."""
        super().pause_writing()
        self._end_stall()
        self._stall_timer = self.loop.call_later(self._settings.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Send on."""
        self._end_stall()
        super().resume_writing()

    def shutdown(self) -> None:
        """End the connection after its request, because the server stops."""
        self._stop()
        super().shutdown()

    @property
    def _is_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _begin_head(self) -> None:
        self._head_size = 0
        self._head_timer = self.loop.call_later(
            self._settings.head_timeout,
            self._refuse,
            Problem(408, "too-slow", "the request did not arrive in time: send it again"),
        )

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem, and close the connection.

        It stays open for a moment: closed with unread bytes, it would be reset, and the client
        might not see the answer.
        """
        self._end_head()
        self._is_refused = True
        self.connections.discard(self)
        body = problem.body()
        lines = [
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in problem.headers.items()),
        ]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.loop.call_later(_LINGER, self.transport.abort)
