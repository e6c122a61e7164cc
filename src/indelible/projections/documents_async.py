"""Read and find the documents of a projection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from indelible.core.concurrency_async import IS_ASYNC
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from . import document_queries
from .definition import ProjectionDefinition
from .document_queries import DocumentPage
from .handlers_async import enrich_async
from .live import Live
from .verification import ProjectionVerifier, Verification

D = TypeVar("D")


class AsyncDocuments(Generic[D]):
    """The documents of a projection, for the version of the code that runs.

    Get them with `AsyncEventStore.documents`.

    Example:
        ```python
        orders = store.documents(Orders)
        order = await orders.read("order-17")
        open_orders = await orders.find({"status": "open"}, limit=50)
        print(len(open_orders), "open; behind by", open_orders.head - open_orders.checkpoint)
        ```
    """

    def __init__(
        self, engine: AsyncPoolEngine | AsyncBoundEngine, described: ProjectionDefinition
    ) -> None:
        self._engine = engine
        self._described = described

    async def read(self, key: str) -> D | None:
        """Read one document.

        Args:
            key: its key: the name of the stream, unless the projection overrides `key`.

        Returns:
            The document; None if it does not exist.

        Raises:
            ProjectionNotFound: the projection never ran.
            ProjectionNotReady: this version of it does not serve yet.
        """
        found = await self.read_many([key])
        return found.get(key)

    async def read_many(self, keys: Iterable[str]) -> DocumentPage[D]:
        """Read several documents at once.

        Args:
            keys: their keys.

        Returns:
            The documents that exist, by key, and how current they are.

        Raises:
            ProjectionNotFound, ProjectionNotReady: as for `read`.
        """
        return await self._engine.run(document_queries.read_documents(self._described, keys))

    async def find(
        self,
        fields: Mapping[str, Any] | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> DocumentPage[D]:
        """Find documents whose fields have given values.

        A field that the projection names in `indexes` is found by index. Other fields need a scan
        of all documents.

        Args:
            fields: values by field name, all of which must match; None for all documents.
            after: only keys after this one, such as the last key of the previous page.
            limit: how many at most.

        Returns:
            The documents by key, in order of key, and how current they are.

        Raises:
            InvalidInput: a value cannot be written as JSON.
            ProjectionNotFound, ProjectionNotReady: as for `read`.
        """
        return await self._engine.run(
            document_queries.find_documents(self._described, fields, after=after, limit=limit)
        )


async def verify_async(engine: AsyncPoolEngine, verifying: ProjectionVerifier) -> Verification:
    """Fold a projection from scratch, and compare the result with the stored documents."""
    described = verifying.definition
    described.check_variant(is_async=IS_ASYNC)
    async with engine.snapshot() as bound:
        await bound.run(verifying.begin())
        while page := await bound.run(verifying.next_page()):
            verifying.take(page, await enrich_async(described, page, bound))
        return await bound.run(verifying.finish())


async def fold_live_async(engine: AsyncPoolEngine | AsyncBoundEngine, live: Live[Any]) -> None:
    """Fold all events of a live projection."""
    described = live.definition
    described.check_variant(is_async=IS_ASYNC)
    while page := await engine.run(live.next_page()):
        if described.enriches:
            async with engine.transaction() as bound:
                live.take(page, await enrich_async(described, page, bound))
        else:
            live.take(page)
