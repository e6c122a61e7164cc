"""Indelible: an event store for Python on PostgreSQL.

Start with `EventStore.connect` or `AsyncEventStore.connect`.
"""

from importlib.metadata import version as _version

from .admin.event_types import TypeCheck, TypeInfo, UnreadableEvent
from .admin.statistics import ChannelStats, StoreStats
from .aggregates.aggregate import Aggregate
from .aggregates.command_handler import CommandResult
from .aggregates.decider import Decider
from .aggregates.snapshots import Snapshots
from .aggregates.state_loader import LoadedState
from .app.app import App
from .app.app_async import AsyncApp
from .bulk_import.types import ImportEvent, ImportResult
from .consumer_groups.consumer import Consumer
from .consumer_groups.consumer_async import AsyncConsumer
from .consumer_groups.delivered_event import DeliveredEvent
from .consumer_groups.delivery import Delivery
from .consumer_groups.delivery_async import AsyncDelivery
from .consumer_groups.group import Group
from .consumer_groups.group_async import AsyncGroup
from .consumer_groups.types import GroupInfo, GroupSettings, GroupWorker, ParkedEvent
from .dcb.decide import Decision
from .dcb.decision_model import DecisionModel
from .dcb.matching_events import MatchingEvents
from .errors import (
    AppendConditionFailed,
    AppendRejected,
    ChannelMismatch,
    ConnectionLost,
    DatabaseError,
    DatabaseUnreachable,
    DecodingFailed,
    Duplicate,
    DuplicateEvent,
    EmbeddedUnavailable,
    EncodingFailed,
    EpochMismatch,
    EventTooLarge,
    GroupExists,
    GroupNotFound,
    IndelibleError,
    InvalidInput,
    LeaseLost,
    LockTimeout,
    PermissionDenied,
    ProjectionDefinitionChanged,
    ProjectionFailed,
    ProjectionNotFound,
    ProjectionNotReady,
    ProjectionStopped,
    SchemaError,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
    ServerBusy,
    StoreClosed,
    StoreForked,
    StreamClosed,
    StreamErased,
    StreamNotClosed,
    StreamNotFound,
    TransactionConflict,
    UnknownEventType,
    UnregisteredEventClass,
    UnsupportedIsolationLevel,
    UpcastingFailed,
    VersionConflict,
    WaitTimeout,
    WrongEventLoop,
    WrongExpectedVersion,
)
from .events import (
    ANY,
    ERASED,
    NO_STREAM,
    STREAM_EXISTS,
    AppendResult,
    Checkpoint,
    Erased,
    ExpectedVersion,
    HeadHolder,
    HeadInfo,
    NewEvent,
    RecordedEvent,
    StreamAppend,
)
from .projections.admin import ProjectionAdmin
from .projections.admin_async import AsyncProjectionAdmin
from .projections.daemon import Daemon
from .projections.daemon_async import AsyncDaemon
from .projections.document_queries import DocumentPage
from .projections.documents import Documents
from .projections.documents_async import AsyncDocuments
from .projections.live import Live
from .projections.processor import Projector
from .projections.processor_async import AsyncProjector
from .projections.projection import (
    DocumentProjection,
    ExternalProjection,
    Projection,
    TableProjection,
    handles,
)
from .projections.rebuild import RebuildProgress
from .projections.types import BuildInfo, PartitionInfo, ProjectionStatus, SkippedEvent
from .projections.verification import Difference, Verification
from .query import AppendCondition, ConsistencyMarker, Query, unregistered
from .serialization.upcasting import Upcaster
from .store.event_store import EventStore
from .store.event_store_async import AsyncEventStore
from .store.transaction_store import TransactionStore
from .store.transaction_store_async import AsyncTransactionStore
from .streams.info import StreamChange, StreamInfo
from .streams.iterators import StreamEvents
from .streams.iterators_async import AsyncStreamEvents
from .streams.log import Log
from .streams.log_async import AsyncLog
from .subscriptions.log_follower import Batch
from .subscriptions.subscription import Subscription
from .subscriptions.subscription_async import AsyncSubscription

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
    "AppendRejected",
    "AppendResult",
    "AsyncApp",
    "AsyncConsumer",
    "AsyncDaemon",
    "AsyncDelivery",
    "AsyncDocuments",
    "AsyncEventStore",
    "AsyncGroup",
    "AsyncLog",
    "AsyncProjectionAdmin",
    "AsyncProjector",
    "AsyncStreamEvents",
    "AsyncSubscription",
    "AsyncTransactionStore",
    "Batch",
    "BuildInfo",
    "ChannelMismatch",
    "ChannelStats",
    "Checkpoint",
    "CommandResult",
    "ConnectionLost",
    "ConsistencyMarker",
    "Consumer",
    "Daemon",
    "DatabaseError",
    "DatabaseUnreachable",
    "Decider",
    "Decision",
    "DecisionModel",
    "DecodingFailed",
    "DeliveredEvent",
    "Delivery",
    "Difference",
    "DocumentPage",
    "DocumentProjection",
    "Documents",
    "Duplicate",
    "DuplicateEvent",
    "EmbeddedUnavailable",
    "EncodingFailed",
    "EpochMismatch",
    "Erased",
    "EventStore",
    "EventTooLarge",
    "ExpectedVersion",
    "ExternalProjection",
    "Group",
    "GroupExists",
    "GroupInfo",
    "GroupNotFound",
    "GroupSettings",
    "GroupWorker",
    "HeadHolder",
    "HeadInfo",
    "ImportEvent",
    "ImportResult",
    "IndelibleError",
    "InvalidInput",
    "LeaseLost",
    "Live",
    "LoadedState",
    "LockTimeout",
    "Log",
    "MatchingEvents",
    "NewEvent",
    "ParkedEvent",
    "PartitionInfo",
    "PermissionDenied",
    "Projection",
    "ProjectionAdmin",
    "ProjectionDefinitionChanged",
    "ProjectionFailed",
    "ProjectionNotFound",
    "ProjectionNotReady",
    "ProjectionStatus",
    "ProjectionStopped",
    "Projector",
    "Query",
    "RebuildProgress",
    "RecordedEvent",
    "SchemaError",
    "SchemaMissing",
    "SchemaOutdated",
    "SchemaTooNew",
    "ServerBusy",
    "SkippedEvent",
    "Snapshots",
    "StoreClosed",
    "StoreForked",
    "StoreStats",
    "StreamAppend",
    "StreamChange",
    "StreamClosed",
    "StreamErased",
    "StreamEvents",
    "StreamInfo",
    "StreamNotClosed",
    "StreamNotFound",
    "Subscription",
    "TableProjection",
    "TransactionConflict",
    "TransactionStore",
    "TypeCheck",
    "TypeInfo",
    "UnknownEventType",
    "UnreadableEvent",
    "UnregisteredEventClass",
    "UnsupportedIsolationLevel",
    "Upcaster",
    "UpcastingFailed",
    "Verification",
    "VersionConflict",
    "WaitTimeout",
    "WrongEventLoop",
    "WrongExpectedVersion",
    "handles",
    "unregistered",
]
