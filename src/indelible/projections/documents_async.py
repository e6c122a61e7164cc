"""Read and find the documents of a projection, async."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from indelible.core.operation import documented_as
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from . import document_queries
from .definition import ProjectionDefinition
from .document_queries import DocumentPage
from .documents import Documents
from .handlers_async import enrich_async
from .live import Live
from .verification import ProjectionVerifier, Verification

D = TypeVar("D")


@documented_as(Documents)
class AsyncDocuments(Generic[D]):
    """The documents of a projection, for `async` code: `Documents` with `await`.

    Example:
        ```python
        orders = store.documents(Orders)
        order = await orders.read("order-17")
        ```
    """

    def __init__(
        self, engine: AsyncPoolEngine | AsyncBoundEngine, described: ProjectionDefinition
    ) -> None:
        self._engine = engine
        self._described = described

    async def read(self, key: str) -> D | None:
        return (await self.read_many([key])).get(key)

    async def read_many(self, keys: Iterable[str]) -> DocumentPage[D]:
        return await self._engine.run(document_queries.read_documents(self._described, keys))

    async def find(
        self,
        fields: Mapping[str, Any] | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> DocumentPage[D]:
        return await self._engine.run(
            document_queries.find_documents(self._described, fields, after=after, limit=limit)
        )


async def verify_async(engine: AsyncPoolEngine, verifying: ProjectionVerifier) -> Verification:
    """Fold a projection anew, and compare, as `verify` does."""
    described = verifying.described
    described.check_variant(is_async=True)
    async with engine.snapshot() as bound:
        await bound.run(verifying.begin())
        while page := await bound.run(verifying.next_page()):
            verifying.take(page, await enrich_async(described, page, bound))
        return await bound.run(verifying.finish())


async def fold_live_async(engine: AsyncPoolEngine | AsyncBoundEngine, live: Live[Any]) -> None:
    """Fold all that a live projection reads, as `fold_live` does."""
    described = live.described
    described.check_variant(is_async=True)
    while page := await engine.run(live.next_page()):
        if described.enriches:
            async with engine.transaction() as bound:
                live.take(page, await enrich_async(described, page, bound))
        else:
            live.take(page)
