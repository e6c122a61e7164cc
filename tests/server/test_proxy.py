"""The server behind a reverse proxy, as `indelible serve` starts it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import httpx
import pytest

from indelible import EventStore
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("proxy", "client"),
    [("127.0.0.1", "203.0.113.7"), ("127.0.0.0/8", "203.0.113.7"), ("192.0.2.1", "127.0.0.1")],
)
def test_only_a_trusted_proxy_names_the_client(
    url: str, schema: str, store: EventStore, proxy: str, client: str
) -> None:
    token = store.create_token("test", can="append").text
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "indelible", "serve", "--port", str(port)),
            *("--trusted-proxy", proxy, "--log-format", "json"),
        ],
        env={**os.environ, "INDELIBLE_URL": url, "INDELIBLE_SCHEMA": schema},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: is_ready(address))
        append = f"{address}/api/v1/streams/a-1/events"
        body = {"events": [{"type": "A"}], "expected": "any"}
        forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7", "X-Forwarded-Proto": "https"}
        # Others than this machine come through the proxy, so they need a token.
        assert httpx.post(append, json=body, headers=forwarded).status_code == 401
        headers = {**forwarded, "Authorization": f"Bearer {token}"}
        assert httpx.post(append, json=body, headers=headers).status_code == 201
    finally:
        server.terminate()
        _, logged = server.communicate(timeout=30)

    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    audit = [line for line in lines if line["logger"] == "indelible.audit"]
    assert [(line["status"], line["client"]) for line in audit] == [(401, client), (201, client)]


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
