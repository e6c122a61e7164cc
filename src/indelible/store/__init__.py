"""The event store: one method per operation, and one module per capability."""

from indelible.streams.iterators import StreamEvents
from indelible.streams.iterators_async import AsyncStreamEvents
from indelible.streams.log import Log
from indelible.streams.log_async import AsyncLog

from .connect import MAX_EVENT_BYTES
from .event_store import EventStore
from .event_store_async import AsyncEventStore
from .protocol import EventStoreProtocol
from .protocol_async import AsyncEventStoreProtocol
from .transaction_store import TransactionStore
from .transaction_store_async import AsyncTransactionStore

__all__ = [
    "MAX_EVENT_BYTES",
    "AsyncEventStore",
    "AsyncEventStoreProtocol",
    "AsyncLog",
    "AsyncStreamEvents",
    "AsyncTransactionStore",
    "EventStore",
    "EventStoreProtocol",
    "Log",
    "StreamEvents",
    "TransactionStore",
]
