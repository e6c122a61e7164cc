"""The addresses of pages. All that a page shows is in its address, so that it can be sent."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode


def address(path: str, **parameters: Any) -> str:
    """Return the address of a page.

    Args:
        path: its path.
        **parameters: its parameters. Those that are None or empty are left out.
    """
    given: list[tuple[str, str]] = []
    for name, value in parameters.items():
        values = value if isinstance(value, list | tuple) else [value]
        given += [(name, str(each)) for each in values if each not in (None, "")]
    return f"{path}?{urlencode(given)}" if given else path
