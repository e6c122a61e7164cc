"""The stores: thin faces over the plans, in both colours, a module for each kind of work.

Each module has a part of `EventStore` and its twin, a line or two of logic per method.
"""

from .event_store import (
    MAX_EVENT_BYTES,
    AsyncBoundEventStore,
    AsyncEventStore,
    BoundEventStore,
    Connecting,
    EventStore,
)
from .events import AsyncLog, AsyncStreamEvents, Log, StreamEvents

__all__ = [
    "MAX_EVENT_BYTES",
    "AsyncBoundEventStore",
    "AsyncEventStore",
    "AsyncLog",
    "AsyncStreamEvents",
    "BoundEventStore",
    "Connecting",
    "EventStore",
    "Log",
    "StreamEvents",
]
