"""The methods of KurrentDB that this server has not: each says what to use instead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NoReturn

from .failures import Failure, Status
from .methods import Call, Kind, Method

_NAMES = {
    "event_store.client.streams.Streams": (
        "Delete Tombstone",
        "close a stream with `indelible streams close`, or erase it with `indelible streams erase`",
    ),
    "event_store.client.persistent_subscriptions.PersistentSubscriptions": (
        "Create Update Delete GetInfo List ReplayParked TruncateParked RestartSubsystem *Read",
        "use a subscription with a checkpoint, or a consumer group of Indelible",
    ),
    "event_store.client.projections.Projections": (
        "Create Update Delete Enable Disable Reset *State *Result RestartSubsystem *Statistics",
        "use a projection of Indelible, in Python, or a subscription",
    ),
    "event_store.client.users.Users": (
        "Create Update Delete Disable Enable ChangePassword ResetPassword *Details",
        "run the server without users, with --insecure",
    ),
    "event_store.client.monitoring.Monitoring": ("*Stats", "use `indelible store stats`"),
    "event_store.client.operations.Operations": (
        "StartScavenge StopScavenge Shutdown MergeIndexes ResignNode SetNodePriority"
        " RestartPersistentSubscriptions",
        "operate PostgreSQL, and stop the server with SIGTERM",
    ),
    "kurrentdb.protocol.v2.streams.StreamsService": (
        "*AppendSession AppendRecords",
        "append to one stream at a time, with Append or BatchAppend",
    ),
    "kurrentdb.protocol.v2.indexes.IndexesService": (
        "Create Start Stop Delete List Get",
        "filter a read of $all by type or by stream prefix",
    ),
}


def methods() -> list[Method]:
    """Return the methods that are refused."""
    return [
        _refused(service, name.removeprefix("*"), advice, is_stream=name.startswith("*"))
        for service, (names, advice) in _NAMES.items()
        for name in names.split()
    ]


def _refused(service: str, name: str, advice: str, *, is_stream: bool) -> Method:
    def refuse() -> NoReturn:
        short = service.rpartition(".")[2]
        raise Failure(Status.UNIMPLEMENTED, f"Indelible does not serve {short}/{name}: {advice}")

    async def answer(call: Call, request: object) -> NoReturn:
        refuse()

    async def answers(call: Call, request: object) -> AsyncIterator[NoReturn]:
        refuse()
        yield  # type: ignore[unreachable]

    kind = Kind.SERVER_STREAM if is_stream else Kind.UNARY
    return Method(service, name, kind, None, answers if is_stream else answer)
