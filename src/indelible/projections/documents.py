# Generated from documents_async.py; do not edit.
"""Read and find the documents of a projection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from indelible.core.concurrency import IS_ASYNC
from indelible.postgres.engine import PoolEngine
from indelible.postgres.transaction import BoundEngine

from . import document_queries
from .definition import ProjectionDefinition
from .document_queries import DocumentPage
from .handlers import enrich
from .live import Live
from .verification import ProjectionVerifier, Verification

D = TypeVar("D")


class Documents(Generic[D]):
    """The documents of a projection, for the version of the code that runs.

    Get them with `EventStore.documents`.

    Example:
        ```python
        orders = store.documents(Orders)
        order = orders.read("order-17")
        open_orders = orders.find({"status": "open"}, limit=50)
        print(len(open_orders), "open; behind by", open_orders.head - open_orders.checkpoint)
        ```
    """

    def __init__(self, engine: PoolEngine | BoundEngine, described: ProjectionDefinition) -> None:
        self._engine = engine
        self._described = described

    def read(self, key: str) -> D | None:
        """Read one document.

        Args:
            key: its key: the name of the stream, unless the projection overrides `key`.

        Returns:
            The document; None if it does not exist.

        Raises:
            ProjectionNotFound: the projection never ran.
            ProjectionNotReady: this version of it does not serve yet.
        """
        found = self.read_many([key])
        return found.get(key)

    def read_many(self, keys: Iterable[str]) -> DocumentPage[D]:
        """Read several documents at once.

        Args:
            keys: their keys.

        Returns:
            The documents that exist, by key, and how current they are.

        Raises:
            ProjectionNotFound, ProjectionNotReady: as for `read`.
        """
        return self._engine.run(document_queries.read_documents(self._described, keys))

    def find(
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
        return self._engine.run(
            document_queries.find_documents(self._described, fields, after=after, limit=limit)
        )


def verify(engine: PoolEngine, verifying: ProjectionVerifier) -> Verification:
    """Fold a projection from scratch, and compare the result with the stored documents."""
    described = verifying.definition
    described.check_variant(is_async=IS_ASYNC)
    with engine.snapshot() as bound:
        bound.run(verifying.begin())
        while page := bound.run(verifying.next_page()):
            verifying.take(page, enrich(described, page, bound))
        return bound.run(verifying.finish())


def fold_live(engine: PoolEngine | BoundEngine, live: Live[Any]) -> None:
    """Fold all events of a live projection."""
    described = live.definition
    described.check_variant(is_async=IS_ASYNC)
    while page := engine.run(live.next_page()):
        if described.enriches:
            with engine.transaction() as bound:
                live.take(page, enrich(described, page, bound))
        else:
            live.take(page)
