# Generated from documents_async.py; do not edit.
"""Store methods that read the documents of projections (read models)."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from indelible.core.timestamps import AsOf
from indelible.projections.definition import ProjectionDefinition
from indelible.projections.documents import Documents, fold_live
from indelible.projections.live import Live
from indelible.projections.projection import DocumentProjection

from .base import StoreBase

P = TypeVar("P")


class DocumentMethods(StoreBase):
    """The methods of an `EventStore` that read the documents of projections."""

    def project(
        self,
        projection: DocumentProjection[P] | type[DocumentProjection[P]],
        key: str | None = None,
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Live[P]:
        """Compute a projection live from the events, now or for an earlier time.

        The result is not stored. If you ask for one document whose key is its stream, only that
        stream is read. Otherwise all events of the projection are read.

        Args:
            projection: the projection.
            key: compute only the document with this key; None for all.
            as_of: use only events recorded by this time or position, as for `read`.
            valid_at: use only facts that hold at this time, in order of valid time, as for `read`.

        Returns:
            The documents. `.document` is the one of the key; `.documents` has all of them by key.

        Raises:
            InvalidInput: the projection has no documents, or an argument is wrong.
            ProjectionFailed: the projection failed on an event.

        Example:
            ```python
            yesterday = datetime.now(UTC) - timedelta(days=1)
            basket = store.project(Baskets, "basket-17", as_of=yesterday)
            print(basket.document)
            ```
        """
        codec = self._append_settings.codec
        described = ProjectionDefinition(projection, codec)
        live: Live[P] = Live(codec, described, key, as_of=as_of, valid_at=valid_at)
        fold_live(self._engine, live)
        return live

    def documents(
        self, projection: DocumentProjection[P] | type[DocumentProjection[P]]
    ) -> Documents[P]:
        """Return access to the stored documents of an inline or async projection.

        Args:
            projection: the projection. Its version selects the documents.

        Returns:
            The documents, with methods to read them by key and to find them.

        Raises:
            InvalidInput: the projection has no documents.

        Example:
            ```python
            order = store.documents(Orders).read("order-17")
            ```
        """
        described = ProjectionDefinition(projection, self._append_settings.codec)
        described.check_kind("documents")
        return Documents(self._engine, described)
