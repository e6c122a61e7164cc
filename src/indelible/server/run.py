"""Run a server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import uvicorn

from indelible.errors import InvalidInput

from .application import create_app
from .connections import Connection
from .settings import ServerSettings
from .workers import serve_by_workers

_GRACE = 10
"""Seconds that requests may take to finish when the server stops."""
_KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open, longer than proxies keep theirs (60). Or else a
proxy could send a request just when the server closes it."""
_STARTUP_FAILED = 3


def serve(
    settings: ServerSettings, *, ready: Callable[[str], None], prepare: Callable[[], None]
) -> None:
    """Serve until SIGTERM or Ctrl-C. Then end subscriptions, and finish the requests.

    Args:
        settings: the settings of the server.
        ready: called once with the address, when the server answers.
        prepare: prepares a process, such as its log. With several workers it must be picklable.

    Raises:
        InvalidInput: the address, or the certificate, cannot be used.
    """
    prepare()
    if settings.workers > 1:
        configuration(settings)  # its errors end this process, and no worker
    listening = _listen(settings)
    address = replace(settings, port=listening.getsockname()[1]).address
    if settings.workers == 1:
        _serve_here(settings, listening, lambda: ready(address))
    elif not serve_by_workers(
        partial(_serve_as_worker, settings, listening, prepare),
        settings.workers,
        lambda: ready(address),
    ):
        sys.exit(_STARTUP_FAILED)


def configuration(settings: ServerSettings, **options: Any) -> uvicorn.Config:
    """Return what uvicorn needs to serve.

    Raises:
        InvalidInput: the certificate cannot be used.
    """
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=cast("Any", partial(Connection, settings, app.stop)),
        ws="none",
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        server_header=False,
        # Anyone could write these headers, so only known proxies may.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
        **options,
    )
    try:
        config.load()
    except OSError as error:
        raise InvalidInput(
            f"--tls-cert {settings.tls_cert} with --tls-key {settings.tls_key} cannot be used:"
            f" {error.strerror or error}"
        ) from error
    return config


class _Server(uvicorn.Server):
    """A server that tells when it is ready, and ends like any program that is done."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        parent = multiprocessing.parent_process()
        if parent is not None:  # a worker does not outlive the process that watches over it
            asyncio.get_running_loop().add_reader(
                parent.sentinel, self._stop_alone, parent.sentinel
            )
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal. Uvicorn would let the signal end the process afterwards."""
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_alone(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self.handle_exit(signal.SIGTERM, None)


def _serve_here(
    settings: ServerSettings, listening: socket.socket, ready: Callable[[], None]
) -> None:
    # Warnings are about what clients send: they would fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    server = _Server(configuration(settings), ready)
    server.run(sockets=[listening])
    if not server.started:
        sys.exit(_STARTUP_FAILED)


def _serve_as_worker(
    settings: ServerSettings,
    listening: socket.socket,
    prepare: Callable[[], None],
    ready: Callable[[], None],
) -> None:
    prepare()
    _serve_here(settings, listening, ready)


def _listen(settings: ServerSettings) -> socket.socket:
    try:
        return socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=2048,
        )
    except OSError as error:
        raise InvalidInput(
            f"the server cannot listen on {settings.address} ({error.strerror or error}): stop the"
            " program that uses the port, or choose another with --port"
        ) from error
