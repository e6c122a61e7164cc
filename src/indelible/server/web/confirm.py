"""Questions before an action: a page that works alone, and opens as a dialog over another page.

A link with `data-dialog` leads to the question. Its form carries what the reader saw. The action
compares it with what is, and refuses with 409 if they differ: see `rights.changed`. It answers with
`page.see`, so that reloading the next page repeats nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from indelible.server.problems import Problem
from indelible.server.routing import Call

from . import formats, rendering


def ask(
    call: Call[Any, Any],
    title: str,
    action: str,
    *texts: str,
    verb: str,
    seen: Mapping[str, Any],
    back: str,
    positions: Sequence[int] = (),
    type_name: str | None = None,
    asks_reason: bool = False,
    is_danger: bool = False,
    nav: str = "",
) -> Response:
    """Ask whether to do something.

    Args:
        call: the request.
        title: the verb and the object.
        action: the address that does it.
        *texts: what will happen, with numbers, and what cannot be undone.
        verb: the word of the button.
        seen: what the reader saw; the form sends it along.
        back: the page to go back to.
        positions: positions of events that the form sends along.
        type_name: the name that the reader types before, because the action cannot be undone.
        asks_reason: whether there is a field for a reason.
        is_danger: whether the button warns.
        nav: the entry of the navigation.
    """
    return rendering.render(
        call.request,
        "confirm.html",
        title=title,
        nav=nav,
        action=action,
        texts=texts,
        verb=verb,
        seen=seen,
        back=back,
        positions=positions,
        type_name=type_name,
        asks_reason=asks_reason,
        is_danger=is_danger or type_name is not None,
    )


def check_typed(name: str, typed: str, *others: str) -> None:
    """Refuse an action whose name was not typed.

    Args:
        name: the name. Typed as it is shown will do, too: some characters are shown as escapes.
        typed: what was typed.
        *others: other texts that will do.

    Raises:
        Problem: none of them was typed.
    """
    if typed not in (name, formats.visible(name), *others):
        raise Problem(422, "not-confirmed", f"Type “{name}” to confirm. You typed “{typed}”.")
