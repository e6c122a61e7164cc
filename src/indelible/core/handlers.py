"""Check that the handlers of an application can be called as the library calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from indelible.errors import InvalidInput


def check_handler(handler: Callable[..., Any], *parameters: str, **named: object) -> None:
    """Check that a handler accepts the arguments of a call, and is not a generator.

    Args:
        handler: the function.
        parameters: the names of the positional arguments, for the error.
        named: the arguments that are passed by name.

    Raises:
        InvalidInput: the handler has other parameters, or is a generator, which would not run.
    """
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise InvalidInput(f"{name_of(handler)} contains a yield, so calling it would do nothing")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return
    try:
        signature.bind(*parameters, **named)
    except TypeError as error:
        raise InvalidInput(
            f"{name_of(handler)} is called with ({', '.join((*parameters, *named))}) but has the"
            f" signature {signature}: {error}"
        ) from None


def check_outcome(handler: Callable[..., Any], outcome: object) -> None:
    """Check that a handler did not return unfinished work.

    Raises:
        InvalidInput: the result is an awaitable or a generator.
    """
    if outcome is None:
        return
    if inspect.isgenerator(outcome) or inspect.isasyncgen(outcome) or inspect.isawaitable(outcome):
        if inspect.iscoroutine(outcome):
            outcome.close()
        raise InvalidInput(
            f"{name_of(handler)} returned a {type(outcome).__name__}, which is never run: do the"
            " work in the function itself"
        )


def name_of(handler: Callable[..., Any]) -> str:
    """Return the name of a function, for errors."""
    return getattr(handler, "__qualname__", repr(handler))
