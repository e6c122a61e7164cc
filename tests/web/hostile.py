"""Names and data that a page must show, and never run."""

from __future__ import annotations

import re
from typing import Any

from indelible import ANY, EventStore, NewEvent

IMAGE = "<img src=x onerror=\"document.title='run'\">"
NAMES = (
    IMAGE,
    '"><svg onload=alert(1)>',
    "{{7*7}}",
    "a\u202egnp.exe",
    "../..?x=1&y=2#z",
    "ß" * 255,
    "'; DROP TABLE events; --",
)
BIG = 9007199254740993


def fill(store: EventStore) -> None:
    """Append an event with each of the names as its stream, its type, its tag and its channel."""
    for name in NAMES:
        data: dict[str, Any] = {name: name, "nested": {"<b>": [name, BIG]}, "big": BIG}
        event = NewEvent(name, data, metadata={"by": name}, tags=[f"tag:{name}"[:200]])
        store.append(name, event, expected=ANY, channel=name)


def check(text: str) -> None:
    """Check that a page contains none of the names as HTML."""
    assert "<img" not in text
    assert "onload=alert(1)>" not in text
    assert "<b>" not in text
    # A form and a copied text have the name itself; what is read shows such characters.
    assert "\u202e" not in re.sub(r'(?:value|data-copy)="[^"]*"', "", text)
