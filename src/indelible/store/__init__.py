"""The stores: thin faces over the plans, in both colours, a module for each kind of work.

Each module has a part of `EventStore` and its twin, a line or two of logic per method.
"""

from indelible.streams.iterators import StreamEvents
from indelible.streams.iterators_async import AsyncStreamEvents
from indelible.streams.log import Log
from indelible.streams.log_async import AsyncLog

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
