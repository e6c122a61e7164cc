"""Check names, texts and numbers from callers."""

from __future__ import annotations

import re
from typing import TypeGuard

from indelible.errors import UNSTORABLE, InvalidInput

NAME_LENGTH = 255
"""The largest number of characters in a name."""

_UNSEEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def validate_name(what: str, name: object) -> str:
    """Check the name of a stream, a channel, a type or a tag.

    Returns:
        The name as a plain `str`, also if it is an instance of a derived class.

    Raises:
        InvalidInput: the name is not text, is empty, has more than 255 characters, or contains a
            character that cannot be stored or displayed.
    """
    if not isinstance(name, str):
        raise InvalidInput(f"the {what} must be text, not {name!r}")
    if not name or len(name) > NAME_LENGTH:
        shown = name if len(name) <= 40 else name[:40] + "…"
        raise InvalidInput(
            f"the {what} must have 1 to {NAME_LENGTH} characters; {shown!r} has {len(name)}"
        )
    if _UNSEEN.search(name):
        raise InvalidInput(f"the {what} must not contain control characters (NUL, …): {name!r}")
    return name if type(name) is str else str.__str__(name)


def validate_new_name(what: str, name: object) -> str:
    """Check the name of a stream or an event type that an application defines.

    Raises:
        InvalidInput: the name is not valid, or is reserved for the store.
    """
    checked = validate_name(what, name)
    if checked.startswith("$"):
        raise InvalidInput(
            f"the {what} must not begin with '$': such names are reserved for the store, so use"
            f" another name than {checked!r}"
        )
    return checked


def validate_text(what: str, text: object) -> str:
    """Check a text for human readers, such as a reason.

    Raises:
        InvalidInput: the value is not text, is blank, or contains a character that cannot be
            stored.
    """
    if not isinstance(text, str) or not text.strip() or UNSTORABLE.search(text):
        raise InvalidInput(
            f"{what} must be text that is not blank, without NUL and half surrogate pairs, not"
            f" {text!r}"
        )
    return text


_LARGEST = 2**63 - 1
"""The largest integer that the database can store."""


def is_integer(value: object, least: int = 0, most: int = _LARGEST) -> TypeGuard[int]:
    """Return whether a value is an integer within bounds; True and False are not integers here."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def validate_integer(what: str, value: object, least: int = 0, most: int = _LARGEST) -> int:
    """Check an integer: a version, a position, a count.

    Args:
        what: the name of the value in the error.
        value: the value.
        least: the smallest allowed integer.
        most: the largest allowed integer.

    Raises:
        InvalidInput: the value is not an integer within the bounds.
    """
    if is_integer(value, least, most):
        return value
    bounds = f"of at least {least}" if most == _LARGEST else f"from {least} to {most:,}"
    raise InvalidInput(f"{what} must be an integer {bounds}, not {value!r}")


def validate_limit(limit: object) -> int | None:
    """Check a limit: an integer of at least 0, or None for no limit."""
    return None if limit is None else validate_integer("limit", limit)
