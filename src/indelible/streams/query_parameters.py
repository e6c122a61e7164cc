"""Check queries and turn them into statement parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from indelible.errors import InvalidInput
from indelible.query import Query, QueryItem, of_items
from indelible.serialization.codec import Codec
from indelible.serialization.event_classes import classes_of


def check_query(query: object) -> Query | None:
    """Check a query: a `Query`, or None for every event.

    Raises:
        InvalidInput: it is neither.
    """
    if query is None or isinstance(query, Query):
        return query
    raise InvalidInput(f"query must be a Query, not {query!r}")


def current_query(codec: Codec, query: object) -> Query | None:
    """Check a query, and return it with the current names of its types.

    Args:
        codec: the codec with the registered types.
        query: a `Query`; a registered event class, or a union of classes; or None for every event.

    Raises:
        InvalidInput: it is none of these, or names an unknown type.
        UnregisteredEventClass: a class is not registered.
    """
    if query is None:
        return None
    if not isinstance(query, Query):
        return types_query(codec, query, "query must be a Query,")
    return codec.upcasting.current(codec.check_query(query))


def types_query(codec: Codec, kind: object, must: str) -> Query:
    """Return the query for the events of a class, or of a union of classes.

    Raises:
        InvalidInput: it is neither; the message begins with `must`.
        UnregisteredEventClass: a class is not registered.
    """
    try:
        classes = classes_of(kind)
    except InvalidInput:
        raise InvalidInput(
            f"{must} an event class or a union of event classes, not {kind!r}"
        ) from None
    return codec.upcasting.current(Query(types=codec.types_of(classes)))


def stored_types(codec: Codec, query: Query | None) -> list[str] | None:
    """Return the stored names of the types of a query that has only types; None for all."""
    if query is None:
        return None
    (item,) = codec.upcasting.stored(query).items
    return list(map(str, item.types))


def items_json(query: Query | None) -> str | None:
    """Return the items of a query as JSON; None if every event matches."""
    if query is None or query.matches_everything:
        return None
    return json.dumps(items(query))


def items(query: Query) -> list[dict[str, Any]]:
    """Return the items of a query as the functions in the database take them."""
    return [
        {
            "types": list(map(str, item.types)) or None,
            "tags": item.tags or None,
            "channel": item.channel,
            "stream": item.stream,
            "stream_prefix": item.stream_prefix,
        }
        for item in query.items
    ]


def query_of(found: Iterable[Mapping[str, Any]]) -> Query:
    """Return the query whose items the database has; the reverse of `items`."""
    return of_items(
        QueryItem(
            types=tuple(item["types"] or ()),
            tags=tuple(item["tags"] or ()),
            channel=item["channel"],
            stream=item.get("stream"),
            stream_prefix=item["stream_prefix"],
        )
        for item in found
    )


def filter_parameters(query: Query | None) -> tuple[str, dict[str, Any]]:
    """Return the name of the statement for a query, and its parameters."""
    if query is None or query.matches_everything:
        return "streams.read_log", {}
    if all(item.tags for item in query.items):
        return "streams.read_log_tagged", {"items": items_json(query)}
    if len(query.items) > 1:
        return "streams.read_log_any", {"items": items_json(query)}
    (item,) = query.items
    return "streams.read_log_filtered", {
        "types": list(map(str, item.types)) or None,
        "tags": list(item.tags) or None,
        "channel": item.channel,
        "stream": item.stream,
        "stream_prefix": item.stream_prefix,
    }
