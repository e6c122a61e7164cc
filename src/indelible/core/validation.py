"""Check names, texts and numbers that callers give."""

from __future__ import annotations

import re
from typing import TypeGuard

from indelible.errors import UNSTORABLE, InvalidInput

NAME_LENGTH = 255
"""How many characters a name may have."""

_UNSEEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def validate_name(what: str, name: object) -> str:
    """Check the name of a stream, a channel, a type or a tag.

    Returns:
        It, as text and nothing else: a class derived from `str` is taken as what it is.

    Raises:
        InvalidInput: it is no text, empty, over 255 characters long, or holds a character that
            cannot be stored or seen.
    """
    if not isinstance(name, str):
        raise InvalidInput(f"a {what} must be text, not {name!r}")
    if not name or len(name) > NAME_LENGTH:
        shown = name if len(name) <= 40 else name[:40] + "…"
        raise InvalidInput(
            f"a {what} must have 1 to {NAME_LENGTH} characters; {shown!r} has {len(name)}"
        )
    if _UNSEEN.search(name):
        raise InvalidInput(f"a {what} must not contain control characters (NUL, …): {name!r}")
    return name if type(name) is str else str.__str__(name)


def validate_new_name(what: str, name: object) -> str:
    """Check the name of a stream or an event type of an application's own.

    Raises:
        InvalidInput: it is no name, or one that the store keeps for itself.
    """
    checked = validate_name(what, name)
    if checked.startswith("$"):
        raise InvalidInput(
            f"a {what} must not begin with '$', as {checked!r} does: such names are reserved for"
            " the store"
        )
    return checked


def validate_text(what: str, text: object) -> str:
    """Check a text for people.

    Raises:
        InvalidInput: it is no text, says nothing, or holds a character that cannot be stored.
    """
    if not isinstance(text, str) or not text.strip() or UNSTORABLE.search(text):
        raise InvalidInput(
            f"{what} must be text that says something, without NUL and half surrogate pairs, not"
            f" {text!r}"
        )
    return text


_LARGEST = 2**63 - 1
"""The largest integer that the database keeps."""


def is_integer(value: object, least: int = 0, most: int = _LARGEST) -> TypeGuard[int]:
    """Whether a value is a whole number between two bounds; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def validate_integer(what: str, value: object, least: int = 0, most: int = _LARGEST) -> int:
    """Check a whole number: a version, a position, a count.

    Args:
        what: what it is called in the error.
        value: the number.
        least: the smallest that is allowed.
        most: the largest that is allowed.

    Raises:
        InvalidInput: it is something else.
    """
    if is_integer(value, least, most):
        return value
    bounds = f"from {least} on" if most == _LARGEST else f"from {least} to {most:,}"
    raise InvalidInput(f"{what} must be a whole number {bounds}, not {value!r}")


def validate_limit(limit: object) -> int | None:
    """Check a limit: a whole number, 0 or more, or None for no limit."""
    return None if limit is None else validate_integer("limit", limit)
