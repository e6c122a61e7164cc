"""Projection definition: a projection checked against the event classes of the store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin
from zlib import crc32

import msgspec

from indelible.core.handlers import check_handler
from indelible.core.retry import LONGEST_DELAY
from indelible.core.validation import validate_integer, validate_name
from indelible.errors import IndelibleError, InvalidInput, ProjectionFailed
from indelible.events import ERASED, RecordedEvent
from indelible.query import Query
from indelible.serialization.codec import Codec

from .projection import DocumentProjection, Kind, OnError, Projection

_MOST_PARTITIONS = 1_024


class ProjectionDefinition:
    """A checked projection, with its event types as the store has registered them.

    Args:
        projection: an instance, or a class that takes no arguments.
        codec: the codec of the store.

    Raises:
        InvalidInput: the projection is not valid.
        UnregisteredEventClass: it handles a class that is not registered with the store.
    """

    def __init__(self, projection: object, codec: Codec) -> None:
        if isinstance(projection, type) and issubclass(projection, Projection):
            projection = projection()
        if not isinstance(projection, Projection) or not hasattr(projection, "_kind"):
            raise InvalidInput(
                "a projection must be a DocumentProjection, a TableProjection or an"
                f" ExternalProjection, not {projection!r}"
            )
        self.projection: Any = projection
        self._class = type(projection)
        self.kind: Kind = projection._kind
        self.name: str = validate_name("projection", getattr(projection, "name", None))
        self.version: int = _check_number(self, "version", projection.version, 2**31 - 1)
        self.partitions: int = _check_number(
            self, "partitions", projection.partitions, _MOST_PARTITIONS
        )
        self.max_attempts: int = _check_number(
            self, "max_attempts", projection.max_attempts, 2**31 - 1
        )
        self.retry_after: float = projection.retry_after
        self.on_error = projection.on_error
        self._check_policy()
        self.handlers: dict[str, Callable[..., Any]] = self._find_handlers(codec)
        self.query: Query = codec.check_query(self._check_query())
        self.indexes: list[str] = self._check_indexes()
        self.ddl: str = self._check_ddl()
        self._plain: Any = None  # the type of documents that are values or lists
        self._documents = self._document_codec()
        self.takes_batches: bool = hasattr(projection, "project")
        self.enriches: bool = hasattr(projection, "enrich")
        self.has_live_effects: bool = hasattr(projection, "on_live")
        self._check_handlers()
        self.is_by_stream: bool = (
            self.kind != "documents" or self._class.key is DocumentProjection.key  # type: ignore[attr-defined]
        )

    def __str__(self) -> str:
        return self.name

    def takes(self, event: RecordedEvent) -> bool:
        """Return whether the projection handles an event. It skips erased events."""
        return (
            event.type in self.handlers
            and event.data is not ERASED
            # Without `query` the event type decides. Matching would cost more than the handler.
            and (self._class.query is None or self.query.matches(event))
        )

    def keys(self, event: RecordedEvent) -> Sequence[str]:
        """Return the keys of the documents that an event changes."""
        if self.is_by_stream:
            return (event.stream,)
        keys = self.projection.key(event)
        if keys is None:
            return ()
        if isinstance(keys, str):
            return (validate_name("key", keys),)
        return [validate_name("key", key) for key in dict.fromkeys(keys)]

    def read(self, document: bytes) -> Any:
        """Read a stored document.

        Raises:
            InvalidInput: it no longer fits the class.
        """
        try:
            return self._documents.decoders[self.name](document)
        except Exception as error:
            raise InvalidInput(
                f"a stored document of projection {self.name!r} does not fit its class ({error}):"
                " increase the version of the projection, so that it is rebuilt"
            ) from error

    def write(self, document: Any) -> bytes:
        """Write a document as JSON.

        Raises:
            InvalidInput: it is not a document of the projection.
            EncodingFailed: a value cannot be written as JSON, or would be read back differently.
        """
        wanted = self._documents.classes.get(self.name)
        if wanted is not None and self._documents.registered_type(document) is None:
            raise self._is_no_document(document, wanted)
        written = self._documents.encode(self.name, document, field="document")
        if self._plain is not None and not _is_of(document, self._plain):
            raise self._is_no_document(document, self._plain)
        return written

    def _is_no_document(self, found: object, wanted: Any) -> InvalidInput:
        return InvalidInput(
            f"a handler of projection {self.name!r} returned a {type(found).__qualname__}: return"
            f" the document, a {wanted.__qualname__ if isinstance(wanted, type) else wanted}, or"
            " None to remove it"
        )

    def failure(self, event: RecordedEvent | None, error: BaseException) -> IndelibleError:
        """Return the error to raise for a failure at an event."""
        if event is None:
            return ProjectionFailed(self.name, None, None, error)
        return ProjectionFailed(self.name, event.position, event.type, error)

    def check_kind(self, kind: Kind) -> None:
        """Check that the projection is of a kind.

        Raises:
            InvalidInput: it is of another kind.
        """
        if self.kind != kind:
            raise InvalidInput(
                f"projection {self.name!r} has no documents: it is not a DocumentProjection"
            )

    def check_variant(self, *, is_async: bool) -> None:
        """Check that the methods that do I/O are sync for a sync store, async for an async one.

        Raises:
            InvalidInput: they are not.
        """
        methods = list(self.handlers.values()) if self.kind != "documents" else []
        methods += [self.projection.project] if self.takes_batches else []
        methods += [self.projection.enrich] if self.enriches else []
        methods += [self.projection.on_live] if self.has_live_effects else []
        for method in methods:
            if inspect.iscoroutinefunction(method) != is_async:
                raise InvalidInput(
                    f"{method.__qualname__} must be a {'coroutine' if is_async else 'plain'}"
                    f" function for {'an AsyncEventStore' if is_async else 'an EventStore'}"
                )

    def _find_handlers(self, codec: Codec) -> dict[str, Callable[..., Any]]:
        handlers: dict[str, Callable[..., Any]] = {}
        for handled, name in self._class._methods.items():
            (event_type,) = codec.types_of([handled])
            if event_type in handlers:
                raise InvalidInput(
                    f"projection {self.name!r} has two methods for event type {event_type!r}"
                )
            handlers[event_type] = getattr(self.projection, name)
        if not handlers:
            raise InvalidInput(
                f"projection {self.name!r} has no handlers: mark its methods with @handles(…)"
            )
        return handlers

    def _check_handlers(self) -> None:
        """Check that the methods take the arguments that they are called with."""
        parameters = {
            "documents": ("document", "event"),
            "tables": ("event", "connection"),
            "external": ("event",),
        }[self.kind]
        if self.enriches:
            check_handler(self.projection.enrich, "events", "connection")
            parameters += ("enriched",)
        if self.takes_batches:
            connection = () if self.kind == "external" else ("connection",)
            check_handler(self.projection.project, "events", *connection)
        else:
            for handler in self.handlers.values():
                check_handler(handler, *parameters)
        if self.has_live_effects:
            check_handler(self.projection.on_live, "event")

    def _check_policy(self) -> None:
        if isinstance(self.retry_after, bool) or not 0 <= self.retry_after <= LONGEST_DELAY:
            raise InvalidInput(
                f"retry_after of projection {self.name!r} must be from 0 to {LONGEST_DELAY:,}"
                f" seconds, not {self.retry_after!r}"
            )
        if self.on_error not in get_args(OnError):
            raise InvalidInput(
                f'on_error of projection {self.name!r} must be "stop" or "park", not'
                f" {self.on_error!r}"
            )

    def _check_query(self) -> Query:
        query = self._class.query
        if query is None:
            return Query(types=sorted(self.handlers))
        if not isinstance(query, Query):
            raise InvalidInput(
                f"the query of projection {self.name!r} must be a Query, not {query!r}"
            )
        return query

    def _check_indexes(self) -> list[str]:
        indexes = getattr(self.projection, "indexes", ())
        if isinstance(indexes, str) or not all(
            isinstance(field, str) and field for field in indexes
        ):
            raise InvalidInput(
                f"indexes of projection {self.name!r} must be names of fields, not {indexes!r}"
            )
        return sorted(set(indexes))

    def _check_ddl(self) -> str:
        ddl = self.projection.ddl if self.kind == "tables" else ""
        if not isinstance(ddl, str):
            raise InvalidInput(
                f"ddl of projection {self.name!r} must be text: SQL that creates its tables, not"
                f" {ddl!r}"
            )
        return ddl

    def _document_codec(self) -> Codec:
        if not isinstance(self.projection, DocumentProjection):
            return Codec()
        for base in self._class.__mro__:
            for origin in getattr(base, "__orig_bases__", ()):
                if get_origin(origin) is DocumentProjection:
                    (document,) = get_args(origin)
                    if document is dict or get_origin(document) is dict:
                        return Codec()
                    if _is_plain(document):
                        return self._plain_codec(document)
                    if isinstance(document, type):
                        return Codec({self.name: document})
        raise InvalidInput(
            f"projection {self.name!r} does not name the class of its documents: write"
            f" class {self._class.__name__}(DocumentProjection[Order]). Plain JSON is dict, int,"
            " float, str, bool, or a list of these; put a list of instances into a field of a class"
        )

    def _plain_codec(self, document: Any) -> Codec:
        if self.indexes:
            raise InvalidInput(
                f"indexes of projection {self.name!r} must be names of fields, and its documents"
                " have none"
            )
        self._plain = document
        codec = Codec()
        codec.decoders[self.name] = msgspec.json.Decoder(document).decode
        return codec


def _is_plain(document: Any) -> bool:
    """Whether a type is a JSON scalar, or a list of plain JSON."""
    if document in (int, float, str, bool, list):
        return True
    return get_origin(document) is list and all(
        item in (Any, dict) or get_origin(item) is dict or _is_plain(item)
        for item in get_args(document)
    )


def _is_of(document: object, kind: Any) -> bool:
    """Whether plain JSON is what a type says, so that it comes back as it is."""
    try:
        return bool(msgspec.convert(document, kind) == document)
    except msgspec.ValidationError:
        return False


def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key or a stream: the same in every process and at any time."""
    return crc32(key.encode()) % partitions


def _check_number(definition: ProjectionDefinition, what: str, value: object, highest: int) -> int:
    return validate_integer(f"{what} of projection {definition.name!r}", value, 1, highest)
