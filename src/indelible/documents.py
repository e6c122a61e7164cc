"""The two faces of a projection's documents, and of a projection that is folded as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from . import found
from .found import Found
from .live import Live
from .plan import documented_as
from .postgres import AsyncBoundEngine, AsyncPoolEngine, BoundEngine, PoolEngine
from .projection import Described
from .projector import enrich, enrich_async
from .verify import Verification, Verifying

D = TypeVar("D")


class Documents(Generic[D]):
    """The documents of a projection, as its code of this version has made them.

    Get them with `EventStore.documents`.

    Example:
        ```python
        orders = store.documents(Orders)
        order = orders.read("order-17")
        open_orders = orders.find({"status": "open"}, limit=50)
        print(len(open_orders), "open; behind by", open_orders.head - open_orders.checkpoint)
        ```
    """

    def __init__(self, engine: PoolEngine | BoundEngine, described: Described) -> None:
        self._engine = engine
        self._described = described

    def read(self, key: str) -> D | None:
        """Read one document.

        Args:
            key: its key: the name of the stream, unless the projection says otherwise.

        Returns:
            The document; None where there is none.

        Raises:
            ProjectionNotFound: the projection never ran.
            ProjectionNotBuilt: this version of it does not serve yet.
        """
        return self.read_many([key]).get(key)

    def read_many(self, keys: Iterable[str]) -> Found[D]:
        """Read several documents at once.

        Args:
            keys: their keys.

        Returns:
            Those that are there, by key, and how fresh they are.

        Raises:
            ProjectionNotFound, ProjectionNotBuilt: as for `read`.
        """
        return self._engine.run(found.read_documents(self._described, keys))

    def find(
        self,
        fields: Mapping[str, Any] | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> Found[D]:
        """Find documents whose fields have given values.

        It is quick for a field that the projection names in `indexes`; without one it looks at
        every document.

        Args:
            fields: values by the names of fields, all of which must hold; None for all documents.
            after: only keys after this one: the last of the page before.
            limit: how many at most.

        Returns:
            The documents by key, in order of key, and how fresh they are.

        Raises:
            InvalidInput: a value has no JSON.
            ProjectionNotFound, ProjectionNotBuilt: as for `read`.
        """
        return self._engine.run(
            found.find_documents(self._described, fields, after=after, limit=limit)
        )


@documented_as(Documents)
class AsyncDocuments(Generic[D]):
    """The documents of a projection, for `async` code: `Documents` with `await`.

    Example:
        ```python
        orders = store.documents(Orders)
        order = await orders.read("order-17")
        ```
    """

    def __init__(self, engine: AsyncPoolEngine | AsyncBoundEngine, described: Described) -> None:
        self._engine = engine
        self._described = described

    async def read(self, key: str) -> D | None:
        return (await self.read_many([key])).get(key)

    async def read_many(self, keys: Iterable[str]) -> Found[D]:
        return await self._engine.run(found.read_documents(self._described, keys))

    async def find(
        self,
        fields: Mapping[str, Any] | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> Found[D]:
        return await self._engine.run(
            found.find_documents(self._described, fields, after=after, limit=limit)
        )


def verify(engine: PoolEngine, verifying: Verifying) -> Verification:
    """Fold a projection anew, and compare."""
    described = verifying.described
    described.check_colour(is_async=False)
    with engine.snapshot() as bound:
        bound.run(verifying.begin())
        while page := bound.run(verifying.next_page()):
            verifying.take(page, enrich(described, page, bound))
        return bound.run(verifying.finish())


async def verify_async(engine: AsyncPoolEngine, verifying: Verifying) -> Verification:
    """Fold a projection anew, and compare, as `verify` does."""
    described = verifying.described
    described.check_colour(is_async=True)
    async with engine.snapshot() as bound:
        await bound.run(verifying.begin())
        while page := await bound.run(verifying.next_page()):
            verifying.take(page, await enrich_async(described, page, bound))
        return await bound.run(verifying.finish())


def fold_live(engine: PoolEngine | BoundEngine, live: Live[Any]) -> None:
    """Fold all that a live projection reads."""
    described = live.described
    described.check_colour(is_async=False)
    while page := engine.run(live.next_page()):
        if described.enriches:
            with engine.transaction() as bound:
                live.take(page, enrich(described, page, bound))
        else:
            live.take(page)


async def fold_live_async(engine: AsyncPoolEngine | AsyncBoundEngine, live: Live[Any]) -> None:
    """Fold all that a live projection reads, as `fold_live` does."""
    described = live.described
    described.check_colour(is_async=True)
    while page := await engine.run(live.next_page()):
        if described.enriches:
            async with engine.transaction() as bound:
                live.take(page, await enrich_async(described, page, bound))
        else:
            live.take(page)
