"""Search the log for events with a value in a field of their data or metadata."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from indelible.errors import UNSTORABLE, InvalidInput
from indelible.query import Query, QueryItem
from indelible.serialization.codec import Codec

from .log_windows import MatchingWindows
from .query_parameters import items_json
from .read_log import LogReading
from .read_options import LogReadOptions

Place = Literal["data", "metadata"]

FIRST_WINDOW = 20_000
"""How many positions the first statement looks at; each that finds nothing doubles it."""
LARGEST_WINDOW = 200_000
_WHOLE_LOG = 2**62
_PART = re.compile(r'"([^"]*)"|([^."]+)')
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,299})(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?")
_WORDS = frozenset({"true", "false", "null"})
_LONGEST = 1_000
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class ValueFilter:
    """Select events by a value in a field.

    Attributes:
        path: the names of the field and of those around it, from outside.
        values: the values that it may have, as JSON. A list matches if it contains one of them.
        place: look in the data or in the metadata only; None for both.
    """

    path: tuple[str, ...]
    values: tuple[str, ...]
    place: Place | None = None

    @staticmethod
    def parse(field: str, value: str) -> ValueFilter:
        r"""Read a field and a value as people write them.

        Args:
            field: the name of the field; with dots for one inside another: `address.city`. Names
                that contain a dot stand in quotation marks. A first name `data` or `metadata` says
                where to look.
            value: the value. `42` is the number and the text; `"42"` is the text only.

        Raises:
            InvalidInput: the field is no path, or a text cannot be stored.
        """
        for name, text in (("field", field), ("value", value)):
            if len(text) > _LONGEST or UNSTORABLE.search(text):
                raise InvalidInput(
                    f"{name} must have at most {_LONGEST:,} characters, and no NUL: {text[:40]!r}"
                )
        path = _path(field)
        place: Place | None = None
        if len(path) > 1 and path[0] in ("data", "metadata"):
            place, path = ("data" if path[0] == "data" else "metadata"), path[1:]
        return ValueFilter(path, _values(value), place)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the statement."""
        return {
            "path": list(self.path),
            "values": list(self.values),
            "in_data": self.place != "metadata",
            "in_metadata": self.place != "data",
        }


class LogSearch(LogReading):
    """A reading of the log by windows, which tells how far it has looked.

    Args:
        codec: decodes the events.
        query: which events; None for all.
        options: the read options.
        value: the value that they have in a field; None for any.
    """

    def __init__(
        self,
        codec: Codec,
        query: Query | None,
        options: LogReadOptions,
        value: ValueFilter | None = None,
    ) -> None:
        super().__init__(codec, query, options)
        if value is not None:
            self._statement = self._ordered("streams.search_log")
            self._filters = {"items": items_json(self._stored_query), **value.parameters()}
            # No index finds them: the windows are those of other filters.
            self._window, self._largest_window = FIRST_WINDOW, LARGEST_WINDOW
            self._windows = MatchingWindows.of(self._stored_query, backwards=self._backwards)
        elif query is not None and all(_is_one_tag(item) for item in query.items):
            self._window = _WHOLE_LOG  # the index of tags has the events, and no others

    @property
    def looked_at(self) -> tuple[int, int]:
        """What is not looked at yet: after the first position, up to the second."""
        return self._after, self._upto

    @property
    def is_at_end(self) -> bool:
        """Whether there is nothing more to look at, or nothing more is wanted."""
        return self._is_at_end()


def _is_one_tag(item: QueryItem) -> bool:
    return len(item.tags) == 1 and item == QueryItem(tags=item.tags)


def _path(field: str) -> tuple[str, ...]:
    parts: list[str] = []
    at = 0
    while (found := _PART.match(field, at)) is not None:
        parts.append(found[1] if found[1] is not None else found[2].strip())
        at = found.end()
        if at == len(field):
            break
        if field[at] != ".":
            parts.clear()
            break
        at += 1
    else:
        parts.clear()
    if not all(parts) or not 0 < len(parts) <= _DEEPEST:
        raise InvalidInput(
            "field must be a name, or names with dots in between (address.city); names that"
            f' contain a dot stand in quotation marks ("a.b".c): {field!r} is none'
        )
    return tuple(parts)


def _values(value: str) -> tuple[str, ...]:
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            given = json.loads(text)
        except ValueError:
            given = None
        if isinstance(given, str) and not UNSTORABLE.search(given):
            return (json.dumps(given),)
    values = (json.dumps(text),)
    return (text, *values) if text in _WORDS or _NUMBER.fullmatch(text) else values
