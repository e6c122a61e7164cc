"""Projections: methods of the async store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar

from indelible.core.operation import documented_as
from indelible.core.timestamps import AsOf
from indelible.core.worker_name import worker_name
from indelible.errors import InvalidInput
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.projections import admin_operations, registry
from indelible.projections.admin_async import AsyncProjectionAdmin
from indelible.projections.assignment import PartitionCoordinator, check_concurrency
from indelible.projections.daemon import daemon_name
from indelible.projections.daemon_async import AsyncDaemon
from indelible.projections.definition import ProjectionDefinition
from indelible.projections.documents_async import AsyncDocuments, fold_live_async, verify_async
from indelible.projections.live import Live
from indelible.projections.partition import PartitionProcessor
from indelible.projections.processor_async import AsyncProjector
from indelible.projections.projection import DocumentProjection, Projection
from indelible.projections.rebuild import report_nothing
from indelible.projections.rebuild_runner import Report
from indelible.projections.rebuild_runner_async import rebuild_projection_async
from indelible.projections.types import BuildInfo, ProjectionStatus
from indelible.projections.verification import ProjectionVerifier, Verification
from indelible.subscriptions.wait_async import wait_for_async

from .base import NOT_IN_A_TRANSACTION
from .projections import ProjectionMethods
from .read_async import AsyncReadMethods
from .subscriptions_async import AsyncSubscriptionMethods

P = TypeVar("P")
_CATCH_UP_SECONDS = 10.0
"""How long `catch_up` waits for others."""


_HAS_NO_SNAPSHOT = (
    "a projection is verified in a snapshot of its own: call this on the store itself"
)


@documented_as(ProjectionMethods)
class AsyncProjectionMethods(AsyncSubscriptionMethods, AsyncReadMethods):
    """The part of an `AsyncEventStore` that keeps read models."""

    async def project(
        self,
        projection: DocumentProjection[P] | type[DocumentProjection[P]],
        key: str | None = None,
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Live[P]:
        codec = self._writing.codec
        described = ProjectionDefinition(projection, codec)
        live: Live[P] = Live(codec, described, key, as_of=as_of, valid_at=valid_at)
        await fold_live_async(self._engine, live)
        return live

    def documents(
        self, projection: DocumentProjection[P] | type[DocumentProjection[P]]
    ) -> AsyncDocuments[P]:
        described = ProjectionDefinition(projection, self._writing.codec)
        described.check_kind("documents")
        return AsyncDocuments(self._engine, described)

    def projector(
        self,
        projection: Projection | type[Projection],
        *,
        partition: int = 0,
        lease: float = 10.0,
        name: str | None = None,
    ) -> AsyncProjector:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        run = PartitionProcessor(
            self._writing.codec,
            ProjectionDefinition(projection, self._writing.codec),
            partition=partition,
            owner=name or worker_name(),
            lease=lease,
        )
        return AsyncProjector(self._engine, self._wakeup.watch, run)

    async def catch_up(self, projection: Projection | type[Projection]) -> int:
        settled = await self.head()
        described = ProjectionDefinition(projection, self._writing.codec)
        for partition in range(described.partitions):
            async with self.projector(described.projection, partition=partition) as projector:
                if await projector.take_over():
                    while projector.position < settled:
                        await projector.step()
        return await wait_for_async(
            self._pool,
            lambda: registry.version_checkpoint(described),
            described.name,
            settled,
            _CATCH_UP_SECONDS,
        )

    async def verify(
        self, projection: DocumentProjection[Any] | type[DocumentProjection[Any]]
    ) -> Verification:
        if not isinstance(self._engine, AsyncPoolEngine):
            raise InvalidInput(_HAS_NO_SNAPSHOT)
        codec = self._writing.codec
        return await verify_async(
            self._engine, ProjectionVerifier(codec, ProjectionDefinition(projection, codec))
        )

    async def projections(self, name: str | None = None) -> list[BuildInfo]:
        return await self._engine.run(registry.builds(name))

    def daemon(
        self,
        projections: Iterable[Projection | type[Projection]],
        *,
        lease: float = 10.0,
        concurrency: int = 8,
        name: str | None = None,
    ) -> AsyncDaemon:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        codec = self._writing.codec
        duty = PartitionCoordinator(
            [ProjectionDefinition(projection, codec) for projection in projections],
            owner=name or daemon_name(),
            lease=lease,
        )
        slots = check_concurrency(concurrency)
        return AsyncDaemon(self._engine, self._wakeup.watch, codec, duty, slots)

    async def rebuild(
        self,
        projection: Projection | type[Projection],
        *,
        report: Report = report_nothing,
        concurrency: int = 4,
    ) -> None:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        codec = self._writing.codec
        described = ProjectionDefinition(projection, codec)
        slots = check_concurrency(concurrency)
        await rebuild_projection_async(
            self._engine, self._wakeup.watch, codec, described, report, slots
        )

    def projection(self, name: str) -> AsyncProjectionAdmin:
        return AsyncProjectionAdmin(name, self._engine)

    async def projection_statuses(self) -> list[ProjectionStatus]:
        return await self._engine.run(admin_operations.statuses())
