"""The routes for orchestrators: whether the server lives, and whether it can serve."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from .routing import Call, answer, route


class Health(msgspec.Struct):
    """The state of the server."""

    status: str


@route("GET", "/health/live", "health", answer=Health)
async def live(call: Call[Any, None]) -> Response:
    """Tell that the process answers."""
    return answer(Health("alive"))


@route("GET", "/health/ready", "health", answer=Health)
async def ready(call: Call[Any, None]) -> Response:
    """Tell that the store answers; otherwise the status is 503."""
    await call.store.epoch()
    return answer(Health("ready"))


routes = [live, ready]
