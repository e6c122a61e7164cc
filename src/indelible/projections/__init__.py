"""Projections: read models kept up to date from events."""

from .admin import ProjectionAdmin
from .admin_async import AsyncProjectionAdmin
from .daemon import Daemon
from .daemon_async import AsyncDaemon
from .document_queries import DocumentPage
from .documents import Documents
from .documents_async import AsyncDocuments
from .live import Live
from .processor import Projector
from .processor_async import AsyncProjector
from .projection import DocumentProjection, ExternalProjection, Projection, TableProjection, handles
from .rebuild import RebuildProgress
from .types import BuildInfo, PartitionInfo, ProjectionStatus, SkippedEvent
from .verification import Difference, Verification

__all__ = [
    "AsyncDaemon",
    "AsyncDocuments",
    "AsyncProjectionAdmin",
    "AsyncProjector",
    "BuildInfo",
    "Daemon",
    "Difference",
    "DocumentPage",
    "DocumentProjection",
    "Documents",
    "ExternalProjection",
    "Live",
    "PartitionInfo",
    "Projection",
    "ProjectionAdmin",
    "ProjectionStatus",
    "Projector",
    "RebuildProgress",
    "SkippedEvent",
    "TableProjection",
    "Verification",
    "handles",
]
