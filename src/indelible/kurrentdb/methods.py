"""Methods of the protocol, independent of the library that carries them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Kind(Enum):
    """Which sides of a method send one message, and which send any number."""

    UNARY = "unary"
    SERVER_STREAM = "server stream"
    CLIENT_STREAM = "client stream"
    DUPLEX = "duplex"

    @property
    def takes_many(self) -> bool:
        """Whether the client sends any number of messages."""
        return self in (Kind.CLIENT_STREAM, Kind.DUPLEX)

    @property
    def sends_many(self) -> bool:
        """Whether the server sends any number of messages."""
        return self in (Kind.SERVER_STREAM, Kind.DUPLEX)


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler knows of a call beside its messages.

    Attributes:
        headers: the headers of the request, in lower case.
        peer: the address of the client.
        deadline: the time of the monotonic clock at which the client gives up; None for never. The
            transport cancels the handler then.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""
    deadline: float | None = None


Answerer = Callable[[Call, Any], Awaitable[Any]]
"""A handler that returns one message."""
Sender = Callable[[Call, Any], AsyncIterator[Any]]
"""A handler that yields messages."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service.

    Attributes:
        service: the full name of the service on the wire.
        name: the name of the method.
        kind: which sides send many messages.
        request: the class of the messages that it takes; None if they are not looked at.
        handle: takes the call, and the request or an iterator over the requests. It returns the
            answer, or yields the answers.
        features: what clients can ask of the method, as they look it up.
    """

    service: str
    name: str
    kind: Kind
    request: Any
    handle: Answerer | Sender
    features: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The path of its requests."""
        return f"/{self.service}/{self.name}"
