"""Parse server-sent events."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """A message of a stream of server-sent events.

    Attributes:
        id: its id, from which a client that comes back continues; None if it has none.
        kind: its kind; empty for an event of the store.
        data: its data; None if it has only an id.
    """

    id: str | None
    kind: str
    data: bytes | None


class MessageParser:
    """Splits the bytes of a stream into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> list[Message]:
        """Take bytes, and return the messages that are now complete."""
        *parts, self._rest = (self._rest + received).split(b"\n\n")
        return list(map(_message, parts))


def _message(part: bytes) -> Message:
    fields: dict[bytes, bytes] = {}
    for line in part.split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value.removeprefix(b" ")
    found = fields.get(b"id")
    return Message(
        None if found is None else found.decode(),
        fields.get(b"event", b"").decode(),
        fields.get(b"data"),
    )
