"""The panes beside a stream: its folded state, what an event changed, and two versions compared."""

from __future__ import annotations

import shlex
from typing import Any

from . import correlation, states
from .addresses import address


async def read(call: Any, query: Any, info: Any, times: Any, detail: Any) -> Any:
    """Return what the chosen pane shows: links of the event, or states.

    Args:
        call: the request.
        query: its parameters.
        info: the stream.
        times: the two moments of the screen.
        detail: the event in focus; None without one.
    """
    if query.pane == "event":
        return None if detail is None else await correlation.event_links(call, detail.event)
    if query.pane == "state":
        return await states.state_panel(
            call, info, fold_name=query.fold, as_of=times.as_of, valid_at=times.valid_at
        )
    at = info.version if detail is None else detail.event.version
    before = at - 1
    if query.pane == "compare":
        before = min(query.with_ or 0, info.version)
    return await states.diff_panel(
        call, info, fold_name=query.fold, valid_at=times.valid_at, before=before, after=at
    )


def commands(
    stream: str, as_of: str | None, valid_at: str | None, base: str, schema: str | None
) -> list[tuple[str, str]]:
    """Return how to ask for the same events in Python, in a shell and over HTTP."""
    python = [repr(stream)]
    shell = ["indelible", "read", shlex.quote(stream)]
    query = {}
    if as_of:
        python.append(
            f"as_of={as_of}" if as_of.isdigit() else f"as_of=datetime.fromisoformat({as_of!r})"
        )
        shell.append(f"--as-of {shlex.quote(as_of)}")
        query["as_of"] = as_of
    if valid_at:
        now = valid_at == "now"
        python.append(
            "valid_at=datetime.now(UTC)"
            if now
            else f"valid_at=datetime.fromisoformat({valid_at!r})"
        )
        shell.append(f"--valid-at {shlex.quote(valid_at)}")
        if not now:
            query["valid_at"] = valid_at
    if schema and schema != "indelible":
        shell.append(f"--schema {shlex.quote(schema)}")
    escaped = address("", q=stream)[3:]  # as a part of a path
    return [
        ("Python", f"store.read({', '.join(python)})"),
        ("Command line", " ".join(shell)),
        (
            "curl",
            "curl "
            + shlex.quote(
                base + address(f"/api/v1/streams/{escaped.replace('+', '%20')}/events", **query)
            ),
        ),
    ]
