"""Refuse events of inline projections in programs that do not have their code."""

from __future__ import annotations

from collections.abc import Iterable

from indelible.errors import InvalidInput

from .types import BuildInfo


def refuse_inline(builds: Iterable[BuildInfo], types: Iterable[str], who: str) -> None:
    """Check the types of events before a program appends them.

    Args:
        builds: the projections of the store.
        types: the types of the events.
        who: the program, for the message: "this command".

    Raises:
        InvalidInput: an inline projection that serves handles one of the types.
    """
    given = set(types)
    for build in builds:
        handled = given if build.types is None else given & set(build.types)
        if build.serves_inline and handled:
            raise InvalidInput(
                f"inline projection {build.name!r} handles {min(handled)!r} in the transaction of"
                f" the append, and {who} does not have its code: append it in the program that"
                " connects with connect(inline=[…])"
            )
