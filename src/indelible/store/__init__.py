"""The event store: one method per operation, no logic; a module for each capability."""

from indelible.streams.iterators import Log, StreamEvents
from indelible.streams.iterators_async import AsyncLog, AsyncStreamEvents

from .event_store import MAX_EVENT_BYTES, EventStore, TransactionStore
from .event_store_async import AsyncEventStore, AsyncTransactionStore, Connecting

__all__ = [
    "MAX_EVENT_BYTES",
    "AsyncEventStore",
    "AsyncLog",
    "AsyncStreamEvents",
    "AsyncTransactionStore",
    "Connecting",
    "EventStore",
    "Log",
    "StreamEvents",
    "TransactionStore",
]
