"""Write and read JSON as msgspec and pydantic do, without a check of what it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from .exactness import as_scalar, is_pydantic, scalar_below


def _encode_other(value: object) -> Any:
    if is_pydantic(type(value)):
        return msgspec.Raw(_dump_model(value, warnings="error"))
    return _encode_scalar(value)


def _encode_model_as_is(value: object) -> Any:
    """Write a model also where a field does not hold what its type says."""
    if is_pydantic(type(value)):
        return msgspec.Raw(_dump_model(value, warnings="none"))
    return _encode_scalar(value)


def _dump_model(model: Any, *, warnings: str) -> bytes:
    dumped: str = model.model_dump_json(by_alias=True, round_trip=True, warnings=warnings)
    return dumped.encode()


def _encode_scalar(value: object) -> Any:
    """Write an instance of a class derived from a JSON scalar as what it is."""
    scalar = scalar_below(type(value))
    if scalar is None:
        raise TypeError(f"objects of type {type(value).__qualname__} have no JSON")
    return as_scalar(scalar, value)


def decode_other(kind: type, value: Any) -> Any:
    """Make an instance of a class that msgspec does not know from plain data."""
    if is_pydantic(kind):
        try:
            return kind.model_validate_json(encode_as_is(value))  # type: ignore[attr-defined]
        except ValueError as error:  # whose text has what it was given in it
            path, reason = reason_of(error)
            raise ValueError(f"{kind.__qualname__}{path}: {reason}") from None
    scalar = scalar_below(kind)
    if scalar is None:
        raise TypeError(f"objects of type {kind.__qualname__} cannot be read from JSON")
    return as_scalar(kind, msgspec.convert(value, scalar, strict=True))


# Sets in one order, so that the same event is the same JSON when it is appended again; but not
# everything that stands in a set has an order, nor does a key that is no text.
encode_ordered: Callable[[object], bytes] = msgspec.json.Encoder(
    enc_hook=_encode_other, order="deterministic"
).encode
encode_as_is: Callable[[object], bytes] = msgspec.json.Encoder(enc_hook=_encode_model_as_is).encode
"""Write JSON of what is known to have some, with all that is in a dict in its order."""

decode_plain: Callable[[bytes | str], Any] = msgspec.json.Decoder().decode
decode_metadata: Callable[[bytes | str], dict[str, Any]] = msgspec.json.Decoder(
    dict[str, Any]
).decode
"""Read the metadata of a stored event."""


def encode(data: object) -> tuple[bytes, bool]:
    """Write JSON; say also whether all keys were text, and all sets had an order."""
    try:
        return encode_ordered(data), True
    except (TypeError, ValueError):  # or a model holds what it should not
        return encode_as_is(data), False


def to_plain(data: object) -> Any:
    """Return data as JSON would hold it: dicts, lists, text, numbers, booleans and None."""
    return decode_plain(encode_as_is(data))


def reason_of(error: Exception) -> tuple[str, str]:
    """Say where data does not fit a class, and why, without what stands there.

    What pydantic and msgspec say of a value may hold it: it does not belong into errors and logs.

    Returns:
        The path of the field, `.items[2].price`, and the reason.
    """
    if hasattr(error, "errors") and callable(error.errors) and hasattr(error, "error_count"):
        errors = error.errors(include_input=False, include_url=False, include_context=False)
        reasons = [f"{_path(detail['loc'])[1:] or 'it'}: {detail['msg']}" for detail in errors]
        return _path(errors[0]["loc"]), "; ".join(reasons)
    reason, _, path = str(error).partition(" - at `$")
    return path.removesuffix("`"), re.sub(r"^(Invalid (?:enum )?value) .*", r"\1", reason)


def _path(steps: Iterable[object]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def cause_of(error: Exception) -> BaseException | None:
    """What an error is raised from: not from one of pydantic or msgspec, whose text holds data."""
    if isinstance(error, msgspec.ValidationError):
        return error.__cause__
    return None if hasattr(error, "error_count") else error
