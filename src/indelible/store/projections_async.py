"""Projections: methods of the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from indelible.core.worker_name import daemon_name, worker_name
from indelible.postgres.engine_async import AsyncShortTimeoutEngine
from indelible.projections import admin_operations, registry
from indelible.projections.admin_async import AsyncProjectionAdmin
from indelible.projections.assignment import PartitionCoordinator, check_concurrency
from indelible.projections.daemon_async import AsyncDaemon
from indelible.projections.definition import ProjectionDefinition
from indelible.projections.documents_async import verify_async
from indelible.projections.partition import PartitionProcessor
from indelible.projections.processor_async import AsyncProjector
from indelible.projections.projection import DocumentProjection, Projection
from indelible.projections.rebuild import Report, report_nothing
from indelible.projections.rebuild_runner_async import rebuild_projection_async
from indelible.projections.types import BuildInfo, ProjectionStatus
from indelible.projections.verification import ProjectionVerifier, Verification
from indelible.streams import head
from indelible.subscriptions.wait_async import wait_for_async

from .base_async import AsyncPooledStoreBase

_CATCH_UP_SECONDS = 10.0
"""How long `catch_up` waits for others."""


class AsyncProjectionMethods(AsyncPooledStoreBase):
    """The part of an `AsyncEventStore` that keeps projections up to date."""

    def projector(
        self,
        projection: Projection | type[Projection],
        *,
        partition: int = 0,
        lease: float = 10.0,
        name: str | None = None,
    ) -> AsyncProjector:
        """Get what keeps one partition of an async projection up to date.

        Args:
            projection: the projection; the first `take_over` makes it known to the store.
            partition: which of its partitions.
            lease: seconds without a sign of life after which others take over.
            name: who runs it, for people; by default host and process.

        Raises:
            InvalidInput: an argument is wrong.
        """
        run = PartitionProcessor(
            self._append_settings.codec,
            ProjectionDefinition(projection, self._append_settings.codec),
            partition=partition,
            owner=name or worker_name(),
            lease=lease,
        )
        return AsyncProjector(AsyncShortTimeoutEngine(self._engine), self._wakeup.watch, run)

    async def catch_up(self, projection: Projection | type[Projection]) -> int:
        """Bring an async projection up to the head of this moment, in this process.

        Partitions that other processes hold are waited for.

        Returns:
            Its checkpoint, of the version that its code has, whether that serves yet or not.

        Raises:
            ProjectionFailed: the projection failed at an event.
            ProjectionDefinitionChanged: it was begun in another way under its version.
            WaitTimeout: others hold a partition and are not as far after ten seconds.
        """
        settled = await self._engine.run(head.head())
        described = ProjectionDefinition(projection, self._append_settings.codec)
        for partition in range(described.partitions):
            async with self.projector(described.projection, partition=partition) as projector:
                if await projector.take_over():
                    while projector.position < settled:
                        await projector.step()
        return await wait_for_async(
            self._engine,
            lambda: registry.version_checkpoint(described),
            described.name,
            settled,
            _CATCH_UP_SECONDS,
        )

    async def verify(
        self, projection: DocumentProjection[Any] | type[DocumentProjection[Any]]
    ) -> Verification:
        """Fold a projection anew up to its checkpoint, and compare with the documents it keeps.

        All documents are in memory meanwhile. It sees one moment, and disturbs nobody. Documents
        of streams that were erased since differ, until the projection is built anew: what was
        erased is still in them.

        Args:
            projection: the projection, inline or async.

        Returns:
            What differs; `.holds` says whether nothing does.

        Raises:
            InvalidInput: the projection has no documents.
            ProjectionNotFound: it never ran.
            ProjectionNotReady: this version of it does not serve yet.
            ProjectionFailed: it failed at an event.
        """
        codec = self._append_settings.codec
        return await verify_async(
            self._engine, ProjectionVerifier(codec, ProjectionDefinition(projection, codec))
        )

    async def projections(self, name: str | None = None) -> list[BuildInfo]:
        """Ask how projections stand: checkpoints, who keeps them up to date, what went wrong.

        Args:
            name: only this one.

        Returns:
            A row a build: several of a projection while another version is built or served.

        Raises:
            ProjectionNotFound: there is none of the name.
        """
        return await self._engine.run(registry.builds(name))

    def daemon(
        self,
        projections: Iterable[Projection | type[Projection]],
        *,
        lease: float = 10.0,
        concurrency: int = 8,
        name: str | None = None,
    ) -> AsyncDaemon:
        """Get what keeps projections up to date, sharing their partitions with other processes.

        Args:
            projections: async projections. All that this process has the code for: what it cannot
                run is dealt to others.
            lease: seconds without a sign of life after which others take over; those notice it
                a second later at most.
            concurrency: how many batches it works on at once. The store needs two connections
                more.
            name: who runs it, for people; by default host and process, and a random part.

        Raises:
            InvalidInput: an argument is wrong, or a projection is given twice.
        """
        codec = self._append_settings.codec
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
        """Build a projection anew from the log, beside the one that serves, and swap the two.

        Daemons that have its code take part. When it is interrupted, the next one goes on. It
        leads a version that does not serve yet to its end, too: an inline projection that is new to
        a store with events, or in a new version.

        Args:
            projection: the projection. One whose state is not in documents is built in a new
                version only.
            report: called again and again with how far it is.
            concurrency: how many partitions are built at once here. The store needs three
                connections more.

        Raises:
            InvalidInput: its state is not in documents, and the version serves; or an argument is
                wrong.
            EpochMismatch: the store failed over or was restored, and its state is elsewhere.
            ProjectionStopped: its code fails at an event; what serves goes on.
            ProjectionDefinitionChanged: it was begun in another way under its version.

        Example:
            ```python
            await store.rebuild(Orders, report=lambda so_far: print(so_far.position, so_far.head))
            ```
        """
        codec = self._append_settings.codec
        described = ProjectionDefinition(projection, codec)
        slots = check_concurrency(concurrency)
        await rebuild_projection_async(
            self._engine, self._wakeup.watch, codec, described, report, slots
        )

    def projection(self, name: str) -> AsyncProjectionAdmin:
        """Give a projection to an operator: how it stands, what it leaves out, restart, drop.

        Args:
            name: its name.
        """
        return AsyncProjectionAdmin(name, self._engine)

    async def projection_statuses(self) -> list[ProjectionStatus]:
        """Ask how all projections stand: state, checkpoint, lag, speed; one for each build."""
        return await self._engine.run(admin_operations.statuses())
