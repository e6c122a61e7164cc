"""A server with the real HTTP stack, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from indelible.server import ServerSettings, create_app
from tests.support.waiting import wait_until


@contextmanager
def served(
    url: str,
    schema: str,
    *,
    port: int = 0,
    certificate: tuple[Path, Path] | None = None,
    **options: Any,
) -> Iterator[str]:
    """Serve a store; give the address.

    Args:
        url: the database.
        schema: the schema of the store.
        port: the port; 0 for any that is free.
        certificate: the files with a certificate and its key, for HTTPS.
        **options: settings of the server.
    """
    app = create_app(ServerSettings(url=url, schema=schema, **{"pool_size": 4, **options}))
    cert, key = certificate or (None, None)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=port,
            log_config=None,
            lifespan="on",
            proxy_headers=False,
            ws="none",
            ssl_certfile=cert,
            ssl_keyfile=key,
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started
        found = server.servers[0].sockets[0].getsockname()[1]
        yield f"{'http' if certificate is None else 'https'}://127.0.0.1:{found}"
    finally:
        app.stop()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
