"""Find the field that JSON or PostgreSQL cannot store."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

Fault = tuple[str, str]
"""The path of a field, and what is wrong with it."""


def reason_of(error: Exception) -> tuple[str, str]:
    """Say where data does not fit a class, and why, without what stands there.

    What pydantic and msgspec say of a value may hold it: it does not belong into errors and logs.

    Returns:
        The path of the field, `.items[2].price`, and the reason.
    """
    if hasattr(error, "errors") and callable(error.errors) and hasattr(error, "error_count"):
        found = error.errors(include_input=False, include_url=False, include_context=False)
        reasons = [f"{_path(one['loc'])[1:] or 'it'}: {one['msg']}" for one in found]
        return _path(found[0]["loc"]), "; ".join(reasons)
    reason, _, place = str(error).partition(" - at `$")
    return place.removesuffix("`"), re.sub(r"^(Invalid (?:enum )?value) .*", r"\1", reason)


def _path(parts: Iterable[object]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def cause_of(error: Exception) -> BaseException | None:
    """What an error is raised from: not from one of pydantic or msgspec, whose text holds data."""
    if isinstance(error, msgspec.ValidationError):
        return error.__cause__
    return None if hasattr(error, "error_count") else error
