"""A store over HTTP: `EventStore.connect("https://…", token=…)`."""

from .consumer import RemoteConsumer
from .consumer_async import AsyncRemoteConsumer
from .event_store import RemoteEventStore
from .event_store_async import AsyncRemoteEventStore
from .group import RemoteGroup
from .group_async import AsyncRemoteGroup
from .subscription import RemoteSubscription
from .subscription_async import AsyncRemoteSubscription

__all__ = [
    "AsyncRemoteConsumer",
    "AsyncRemoteEventStore",
    "AsyncRemoteGroup",
    "AsyncRemoteSubscription",
    "RemoteConsumer",
    "RemoteEventStore",
    "RemoteGroup",
    "RemoteSubscription",
]
