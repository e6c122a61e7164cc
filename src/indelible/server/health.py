"""The routes for operators: whether the server lives, whether it can serve, and its counts."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from . import metrics
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


@route("GET", "/metrics", "health", media_types=(metrics.MEDIA_TYPE,))
async def count_requests(call: Call[Any, None]) -> Response:
    """Count the requests of this process by route and status, in the format of Prometheus."""
    return Response(call.request.app.state.requests.text(), media_type=metrics.FORMAT)


routes = [live, ready, count_requests]
