"""What a client asks before it works: which methods are served, and where."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .methods import Call, Kind, Method
from .proto.cluster_pb2 import ClusterInfo, Member, SupportedMethods
from .served_store import ServedStore
from .wire import uuid_message

GOSSIP = "event_store.client.gossip.Gossip"
FEATURES = "event_store.client.server_features.ServerFeatures"
VERSION = "24.10.0"
"""The version of KurrentDB whose methods are served. Clients choose theirs by it."""
_LEADER = 8
_TICKS_AT_1970 = 621_355_968_000_000_000


def methods(
    served: ServedStore,
    address: Callable[[], tuple[str, int]],
    others: Sequence[Method],
) -> list[Method]:
    """Return the methods about the server.

    Args:
        served: the store.
        address: returns the host and the port at which clients reach the server.
        others: the other methods that are served.
    """

    async def read_gossip(call: Call, request: bytes) -> ClusterInfo:
        host, port = address()
        return ClusterInfo(
            members=[
                Member(
                    instance_id=uuid_message(served.instance_id),
                    time_stamp=_TICKS_AT_1970 + time.time_ns() // 100,
                    state=_LEADER,
                    is_alive=True,
                    http_end_point=Member.EndPoint(address=host, port=port),
                )
            ]
        )

    async def supported_methods(call: Call, request: bytes) -> SupportedMethods:
        return SupportedMethods(
            methods=[
                SupportedMethods.Method(
                    method_name=method.name.lower(),
                    service_name=method.service.lower(),
                    features=method.features,
                )
                for method in [*others, *here]
            ],
            event_store_server_version=VERSION,
        )

    here = [
        Method(GOSSIP, "Read", Kind.UNARY, None, read_gossip),
        Method(FEATURES, "GetSupportedMethods", Kind.UNARY, None, supported_methods),
    ]
    return here
