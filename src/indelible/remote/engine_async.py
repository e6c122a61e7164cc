"""Run operations over HTTP: an engine whose database is behind a server."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx

from indelible.core.concurrency_async import sleep_async
from indelible.core.operation import Operation, Rows, Statement, run_async
from indelible.core.retry import Backoff
from indelible.errors import (
    ConnectionLost,
    DatabaseUnreachable,
    IndelibleError,
    InvalidInput,
    NeedsDatabase,
    StoreClosed,
)
from indelible.postgres.forks import Origin
from indelible.serialization.codec import Codec

from .event_source_async import SILENCE, AsyncEventSource
from .problems import BUSY_STATUSES, error_of
from .requests import EVENT_STREAM, JSON, Request
from .statements import answer

T = TypeVar("T")

_BACKOFF = Backoff(0.05, 2.0)
_IMPATIENCE = 1.0
"""Seconds for which a caller that repeats its requests by itself waits for a connection."""
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)


class AsyncRemoteEngine:
    """Runs operations over HTTP.

    Args:
        url: the URL of the server, without `/api/v1`.
        codec: decodes the events in errors.
        token: the token; None for a server that asks for none.
        ca_file: the certificates that are trusted; None for those of the system.
        pool_size: how many connections are kept open.
        timeout: how long to try, in seconds.

    Raises:
        InvalidInput: the URL or the file is not valid.
    """

    def __init__(
        self,
        url: str,
        codec: Codec,
        *,
        token: str | None,
        ca_file: str | Path | None,
        pool_size: int,
        timeout: float,
    ) -> None:
        self._url = url
        self._codec = codec
        self._timeout = timeout
        self._origin = Origin()
        self._is_closed = False
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._client = httpx.AsyncClient(
                base_url=f"{url.rstrip('/')}/api/v1",
                headers=headers,
                verify=_trust(ca_file),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=pool_size),
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidInput(
                f"the URL of the server or the token is not valid: {error}"
            ) from error

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what only an engine of a database has: transactions, COPY, sessions."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise NeedsDatabase

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, and return its result."""
        return await run_async(operation, self._execute)

    async def run_best_effort(self, operation: Operation[None]) -> None:
        """Do nothing: what may fail is work that the server does not do for others."""
        operation.close()

    async def wait(self, seconds: float) -> None:
        """Wait before a decision is retried."""
        await sleep_async(seconds)

    async def subscribe(
        self, parameters: Mapping[str, object], last_id: str | None, *, is_patient: bool
    ) -> AsyncEventSource:
        """Open a subscription by server-sent events.

        Args:
            parameters: what to subscribe to, and where to start.
            last_id: the id of the last message, after which to continue; None to start.
            is_patient: whether to retry for as long as other calls do.
        """
        request = Request("GET", parameters, path="/events/subscribe", accept=EVENT_STREAM)
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        timeout = self._timeout if is_patient else min(self._timeout, _IMPATIENCE)
        return AsyncEventSource(await self._send(request, timeout, headers, is_stream=True))

    async def close(self) -> None:
        """Close all connections. Closing twice is allowed."""
        self._is_closed = True
        if self._origin.is_here:
            await self._client.aclose()

    async def _execute(self, statement: Statement) -> Rows:
        if not isinstance(statement, Request):
            return await run_async(answer(statement), self._execute)
        response = await self._send(statement, self._timeout, {})
        return [(response.content, response.status_code)]

    async def _send(
        self,
        request: Request,
        timeout: float,
        headers: Mapping[str, str],
        *,
        is_stream: bool = False,
    ) -> httpx.Response:
        """Send a request until it is answered, or the time is over.

        Each request can be sent again: it has the ids of its events, or its outcome is the same.
        """
        deadline = time.monotonic() + timeout
        failures = 0
        loss: ConnectionLost | None = None
        while True:
            self._origin.check()
            if self._is_closed:
                raise StoreClosed
            pause = 0.0
            try:
                response = await self._client.send(
                    self._built(
                        request, headers, max(deadline - time.monotonic(), 0.001), is_stream
                    ),
                    stream=is_stream,
                )
                if response.status_code < 300:
                    return response
                await response.aread()
                problem = error_of(response.status_code, response.content, self._codec)
                if response.status_code not in BUSY_STATUSES:
                    raise problem
                pause = _retry_after(response)
            except httpx.HTTPError as error:
                problem = self._unanswered(error)
                if isinstance(problem, DatabaseUnreachable) and _is_refused_certificate(error):
                    raise problem from error
            except RuntimeError as error:
                # The client was closed meanwhile.
                if self._is_closed:
                    raise StoreClosed from error
                raise
            if isinstance(problem, ConnectionLost):
                loss = problem
            failures += 1
            pause = max(pause, _BACKOFF.delay(failures))
            if time.monotonic() + pause >= deadline:
                raise loss or problem
            await sleep_async(pause)

    def _built(
        self, request: Request, headers: Mapping[str, str], seconds: float, is_stream: bool
    ) -> httpx.Request:
        content = {} if request.body is None else {"Content-Type": JSON}
        return self._client.build_request(
            request.name,
            request.path,
            params=dict(request.parameters),  # type: ignore[arg-type]  # they become text
            content=request.body,
            headers={"Accept": request.accept, **content, **headers},
            timeout=httpx.Timeout(
                seconds + request.wait, read=SILENCE if is_stream else seconds + request.wait
            ),
        )

    def _unanswered(self, error: httpx.HTTPError) -> IndelibleError:
        reason = str(error) or type(error).__name__
        if isinstance(error, _NEVER_SENT):
            hint = (
                "; pass ca_file=… with the certificate that you trust"
                if _is_refused_certificate(error)
                else ": check the URL, and that the server runs"
            )
            return DatabaseUnreachable(f"{self._url} cannot be reached ({reason}){hint}")
        return ConnectionLost(
            f"the connection to {self._url} was lost ({reason}), and the outcome of the request is"
            " not known: an append with the same event ids stores nothing twice"
        )


def _trust(ca_file: str | Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"ca_file must be a file with certificates in PEM format; {ca_file} cannot be read:"
            f" {error}"
        ) from error


def _retry_after(response: Any) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0


def _is_refused_certificate(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
