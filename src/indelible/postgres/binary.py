"""Encode values in PostgreSQL's binary format: arrays as one parameter, and the rows of a COPY.

The driver adapts a list value by value, which would take as long as the rest of an import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from struct import pack
from typing import Any, Final, Literal

Kind = Literal["integer", "bigint", "uuid", "text", "jsonb", "timestamptz"]

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""The zero point of PostgreSQL's binary timestamps."""

COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END: Final = b"\xff\xff"
"""The header and the trailer of a binary COPY."""

NULL: Final = pack(">i", -1)

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Column:
    """One field of many events, sent as one array parameter.

    Attributes:
        binary: the array in PostgreSQL's binary format.
    """

    binary: bytes


def column(kind: Kind, values: Sequence[Any]) -> Column | None:
    """Encode values as a column.

    Args:
        kind: the PostgreSQL type of the values.
        values: the values; None for null. Pass JSON as its text in bytes, and an id as its 16
            bytes.

    Returns:
        The column; None if all values are null.
    """
    return None if values.count(None) == len(values) else Column(array(kind, values))


def array(kind: Kind, values: Sequence[Any]) -> bytes:
    """Encode values as a binary array; `kind` and `values` are those of `column`."""
    has_nulls = None in values
    type_oid, convert, layout, size = _KINDS[kind]
    # Number of dimensions, whether there are nulls, type, number of values, lower bound.
    header = pack(">iiiii", 1, has_nulls, type_oid, len(values), 1)
    if layout and not has_nulls:
        given = values if convert is None else map(convert, values)
        fields = chain.from_iterable(zip(repeat(size), given, strict=False))
        return header + pack(">" + f"i{layout}" * len(values), *fields)
    parts = [header]
    for value in values:
        if value is None:
            parts.append(NULL)
            continue
        given = value if convert is None else convert(value)
        given = pack(f">{layout}", given) if layout else given
        parts += (pack(">i", len(given)), given)
    return b"".join(parts)


def sized(value: bytes) -> bytes:
    """Encode a field of a binary row: its length, then its value."""
    return pack(">i", len(value)) + value


def microseconds(moment: datetime) -> int:
    """Return a timestamp in microseconds since 2000-01-01, as PostgreSQL stores it."""
    return (moment - EPOCH) // _MICROSECOND


def _json(text: bytes) -> bytes:
    return b"\x01" + text  # the version of the jsonb format


# For each type: its OID, the conversion of a value, and the struct format and length if the length
# is fixed.
_KINDS: Mapping[str, tuple[int, Callable[[Any], Any] | None, str, int]] = {
    "integer": (23, None, "i", 4),
    "bigint": (20, None, "q", 8),
    "uuid": (2950, None, "16s", 16),
    "timestamptz": (1184, microseconds, "q", 8),
    "text": (25, str.encode, "", 0),
    "jsonb": (3802, _json, "", 0),
}
