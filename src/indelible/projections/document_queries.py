"""Operations: read and find the documents of projections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_limit, validate_name
from indelible.errors import InvalidInput, ProjectionNotReady

from .registry import builds

D = TypeVar("D")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class DocumentPage(Mapping[str, D]):
    """Documents by key, in order of key, and how current they are.

    Attributes:
        checkpoint: the documents include all events up to this position.
        head: the settled position just before they were read.
    """

    documents: Mapping[str, D]
    checkpoint: int
    head: int

    @property
    def is_current(self) -> bool:
        """Whether the documents include all events up to `head`."""
        return self.checkpoint >= self.head

    def __getitem__(self, key: str) -> D:
        return self.documents[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)


class DocumentSource(Protocol):
    """What documents are read of: one version of a projection."""

    @property
    def name(self) -> str:
        """The name of the projection."""

    @property
    def version(self) -> int:
        """The version."""

    @property
    def indexes(self) -> Sequence[str]:
        """The fields of the documents that have an index."""

    def read(self, document: bytes) -> Any:
        """Read a stored document."""


@dataclass(frozen=True, slots=True)
class StoredDocuments:
    """The documents of one version of a projection as they are stored: no code of it is needed."""

    name: str
    version: int
    indexes: Sequence[str] = ()

    def read(self, document: bytes) -> msgspec.Raw:
        """Return a document as JSON."""
        return msgspec.Raw(document)


def read_documents(definition: DocumentSource, keys: Iterable[str]) -> Operation[DocumentPage[Any]]:
    """Read some documents; see `Documents.read_many`."""
    wanted = [validate_name("key", key) for key in keys]
    return (yield from _found(definition, "projections.get_documents", {"keys": wanted}))


def find_documents(
    definition: DocumentSource,
    fields: Mapping[str, Any] | None,
    *,
    after: str | None,
    limit: int | None,
) -> Operation[DocumentPage[Any]]:
    """Find documents by the values of their fields; see `Documents.find`."""
    page: dict[str, object] = {
        "after": "" if after is None else validate_name("key", after),
        "limit": validate_limit(limit),
    }
    if not fields:
        return (yield from _found(definition, "projections.documents_all", page))
    field = next((name for name in definition.indexes if name in fields), next(iter(fields)))
    try:
        value = _encode(fields[field]).decode()
        written = _encode(fields).decode()
    except (TypeError, msgspec.MsgspecError) as error:
        raise InvalidInput(
            f"fields must have values that can be written as JSON: {error}"
        ) from error
    parameters = {
        **page,
        "field": field,
        "value": value,
        "fields": written,
    }
    return (yield from _found(definition, "projections.find_documents", parameters))


def _found(
    definition: DocumentSource, statement: str, parameters: Mapping[str, object]
) -> Operation[DocumentPage[Any]]:
    rows = yield Statement(
        statement, {"name": definition.name, "version": definition.version, **parameters}
    )
    if not rows:
        yield from builds(definition.name)
        raise ProjectionNotReady(definition.name, definition.version)
    documents = {row[2]: definition.read(row[3]) for row in rows if row[2] is not None}
    return DocumentPage(documents, rows[0][0], rows[0][1])
