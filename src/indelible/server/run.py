"""Run a server until it is told to stop."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from indelible.errors import InvalidInput

from .application import create_app
from .settings import ServerSettings

_GRACE = 10
"""Seconds that requests may take to finish when the server stops."""


class _Server(uvicorn.Server):
    """A server whose subscriptions end as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stop()
        super().handle_exit(sig, frame)


def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or Ctrl-C. Then end subscriptions, and finish the requests.

    Raises:
        InvalidInput: the address cannot be used.
    """
    listening = _listen(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        server_header=False,
        # Anyone could write these headers, so only known proxies may.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        lifespan="on",
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config, app.stop)
    server.run(sockets=[listening])
    if not server.started:
        sys.exit(3)


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
