"""Handlers, the functions of an application: whether they can be called as they will be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from indelible.errors import InvalidInput


def check_handler(handler: Callable[..., Any], *parameters: str, **named: object) -> None:
    """Check that a handler takes what it will be called with, and runs when it is called.

    Args:
        handler: the function.
        parameters: what it is called with, for the error.
        named: what it is called with by name.

    Raises:
        InvalidInput: it takes something else, or is a generator, which does nothing when called.
    """
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise InvalidInput(f"{name_of(handler)} has a yield in it and would do nothing when called")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # something built in does not say
        return
    try:
        signature.bind(*parameters, **named)
    except TypeError as error:
        raise InvalidInput(
            f"{name_of(handler)} is called with ({', '.join((*parameters, *named))})"
            f" and takes {signature}: {error}"
        ) from None


def check_outcome(handler: Callable[..., Any], outcome: object) -> None:
    """Check that what a handler returned is not still to be done.

    Raises:
        InvalidInput: it must be awaited, or iterated over.
    """
    if outcome is None:
        return
    if inspect.isgenerator(outcome) or inspect.isasyncgen(outcome) or inspect.isawaitable(outcome):
        if inspect.iscoroutine(outcome):
            outcome.close()
        raise InvalidInput(
            f"{name_of(handler)} returned a {type(outcome).__name__}, which nobody waits for:"
            " do in it what is to be done"
        )


def name_of(handler: Callable[..., Any]) -> str:
    """Return the name of a function, for errors."""
    return getattr(handler, "__qualname__", repr(handler))
