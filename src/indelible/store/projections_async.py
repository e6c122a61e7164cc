"""Store methods for projections."""

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
"""How long `catch_up` waits for partitions that other processes hold."""


class AsyncProjectionMethods(AsyncPooledStoreBase):
    """The methods of an `AsyncEventStore` that run, rebuild and administer projections."""

    def projector(
        self,
        projection: Projection | type[Projection],
        *,
        partition: int = 0,
        lease: float = 10.0,
        name: str | None = None,
    ) -> AsyncProjector:
        """Return a projector, which updates one partition of an async projection.

        Use a `daemon` unless you need to control each step.

        Args:
            projection: the projection. The first `take_over` registers it in the store.
            partition: the number of the partition, from 0.
            lease: the lease in seconds. Another process can take over the partition if no
                heartbeat was sent for this long.
            name: the name of the worker in status reports; by default host and process.

        Returns:
            The projector, a context manager.

        Raises:
            InvalidInput: an argument is wrong.

        Example:
            ```python
            async with store.projector(Orders) as projector:
                if await projector.take_over():
                    await projector.step()
            ```
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
        """Bring an async projection up to the current head, in this process.

        If other processes hold a partition, the call waits for them.

        Args:
            projection: the projection.

        Returns:
            The checkpoint of the projection in the version of its code. This version need not be
            the one that serves reads.

        Raises:
            ProjectionFailed: the projection failed on an event.
            ProjectionDefinitionChanged: this version is registered with another definition.
            WaitTimeout: another process holds a partition and did not reach the head in 10 s.
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
        """Recompute a projection up to its checkpoint and compare it with its stored documents.

        The comparison reads one consistent snapshot and blocks no other work. It holds all
        documents in memory. Documents of streams erased later differ, because they still contain
        the erased data; a rebuild removes it.

        Args:
            projection: the projection, inline or async.

        Returns:
            The differences. `.holds` is true if there are none.

        Raises:
            InvalidInput: the projection has no documents.
            ProjectionNotFound: the projection never ran.
            ProjectionNotReady: this version of it is not built yet.
            ProjectionFailed: the projection failed on an event.
        """
        codec = self._append_settings.codec
        return await verify_async(
            self._engine, ProjectionVerifier(codec, ProjectionDefinition(projection, codec))
        )

    async def projections(self, name: str | None = None) -> list[BuildInfo]:
        """Return the builds of projections: their checkpoints, workers and errors.

        Args:
            name: the name of one projection; None for all.

        Returns:
            One entry per build. A projection has several builds while a new version is built next
            to the one that serves.

        Raises:
            ProjectionNotFound: no projection has this name.
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
        """Return a daemon, which keeps projections up to date and shares them with other daemons.

        Args:
            projections: all async projections for which this process has the code. Other
                projections are assigned to other processes.
            lease: the lease in seconds. Other daemons take over if no heartbeat was sent for this
                long. They notice it within another second.
            concurrency: how many batches the daemon processes at once. The `pool_size` of the
                store must be at least two larger.
            name: the name of the daemon in status reports; by default host, process and a random
                part.

        Returns:
            The daemon; `run` starts it.

        Raises:
            InvalidInput: an argument is wrong, or a projection is passed twice.

        Example:
            ```python
            stop = asyncio.Event()
            await store.daemon([Orders, Baskets]).run(stop)
            ```
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
        """Rebuild a projection from the log and then cut over to the new build.

        The current build serves reads until the cutover, which is one transaction. Daemons that
        have the code of the projection take part. After an interruption, call `rebuild` again; it
        continues. It also completes a version that is not ready yet, such as an inline projection
        that is new to a store with events.

        Args:
            projection: the projection. If its state is not in documents, only a new version can be
                built.
            report: called repeatedly with the progress.
            concurrency: how many partitions this process builds at once. The `pool_size` of the
                store must be at least three larger.

        Raises:
            InvalidInput: an argument is wrong, or the state is not in documents and this version
                already serves.
            EpochMismatch: the store failed over or was restored, and the state of the projection
                is outside the store.
            ProjectionStopped: the projection failed on an event. The current build still serves.
            ProjectionDefinitionChanged: this version is registered with another definition.

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
        """Return a handle to administer a projection: status, parked events, restart, drop.

        Args:
            name: the name of the projection.

        Returns:
            The handle.
        """
        return AsyncProjectionAdmin(name, self._engine)

    async def projection_statuses(self) -> list[ProjectionStatus]:
        """Return the status of all projections: state, checkpoint, lag and speed of each build."""
        return await self._engine.run(admin_operations.statuses())
