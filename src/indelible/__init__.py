"""Indelible: an event store for Python on PostgreSQL.

Start with `EventStore.connect` or `AsyncEventStore.connect`. This module exports the names that
most programs need. The other names are in the packages `indelible.errors`, `.streams`,
`.subscriptions`, `.consumer_groups`, `.projections`, `.aggregates`, `.dcb`, `.bulk_import`,
`.admin` and `.testing`.

Example:
    ```python
    from indelible import NO_STREAM, EventStore

    with EventStore.connect(events=[OrderCreated]) as store:
        store.append("order-17", OrderCreated(total=12), expected=NO_STREAM)
        for event in store.read("order-17"):
            print(event.version, event.type, event.data)
    ```
"""

from importlib.metadata import version as _version

from .aggregates.aggregate import Aggregate
from .aggregates.decider import Decider
from .aggregates.snapshots import Snapshots
from .app.app import App
from .app.app_async import AsyncApp
from .consumer_groups.delivery import Delivery
from .consumer_groups.delivery_async import AsyncDelivery
from .dcb.decision_model import DecisionModel
from .errors import (
    AppendConditionFailed,
    ConnectionLost,
    DuplicateEvent,
    IndelibleError,
    InvalidInput,
    LeaseLost,
    StreamClosed,
    StreamNotFound,
    WaitTimeout,
    WrongExpectedVersion,
)
from .events import (
    ANY,
    ERASED,
    NO_STREAM,
    STREAM_EXISTS,
    AppendResult,
    Checkpoint,
    NewEvent,
    RecordedEvent,
    StreamAppend,
)
from .projections.projection import DocumentProjection, ExternalProjection, TableProjection, handles
from .query import AppendCondition, ConsistencyMarker, Query, unregistered
from .serialization.upcasting import Upcaster
from .store import AsyncEventStore, AsyncTransactionStore, EventStore, TransactionStore

__version__ = _version("indelible")

__all__ = [
    "ANY",
    "ERASED",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Aggregate",
    "App",
    "AppendCondition",
    "AppendConditionFailed",
    "AppendResult",
    "AsyncApp",
    "AsyncDelivery",
    "AsyncEventStore",
    "AsyncTransactionStore",
    "Checkpoint",
    "ConnectionLost",
    "ConsistencyMarker",
    "Decider",
    "DecisionModel",
    "Delivery",
    "DocumentProjection",
    "DuplicateEvent",
    "EventStore",
    "ExternalProjection",
    "IndelibleError",
    "InvalidInput",
    "LeaseLost",
    "NewEvent",
    "Query",
    "RecordedEvent",
    "Snapshots",
    "StreamAppend",
    "StreamClosed",
    "StreamNotFound",
    "TableProjection",
    "TransactionStore",
    "Upcaster",
    "WaitTimeout",
    "WrongExpectedVersion",
    "handles",
    "unregistered",
]
