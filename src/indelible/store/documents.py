# Generated from documents_async.py; do not edit.
"""Read models: methods of the store."""

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
    """The part of an `EventStore` that reads what projections make of events."""

    def project(
        self,
        projection: DocumentProjection[P] | type[DocumentProjection[P]],
        key: str | None = None,
        *,
        as_of: AsOf | None = None,
        valid_at: datetime | None = None,
    ) -> Live[P]:
        """Fold a projection from the events now, at whatever time: nothing of it is kept.

        For one document whose key is its stream only that stream is read, else all events that
        the projection takes.

        Args:
            projection: the projection.
            key: only this document.
            as_of: only from what was recorded by then, as for `read`.
            valid_at: only from what holds at this moment, in order of valid time, as for `read`.

        Returns:
            The documents: `.document` is that of the key, `.documents` are all by key.

        Raises:
            InvalidInput: the projection has no documents, or an argument is wrong.
            ProjectionFailed: the projection failed at an event.

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
        """Give access to the documents of a projection that is kept, inline or async.

        Args:
            projection: the projection; its version says which documents.

        Raises:
            InvalidInput: the projection has no documents.
        """
        described = ProjectionDefinition(projection, self._append_settings.codec)
        described.check_kind("documents")
        return Documents(self._engine, described)
