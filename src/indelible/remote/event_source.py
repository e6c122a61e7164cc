# Generated from event_source_async.py; do not edit.
"""One connection of a subscription."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import httpx

from indelible.errors import ConnectionLost

from .messages import Message, MessageParser

SILENCE = 60.0
"""Seconds without a byte, not even a heartbeat, after which a connection counts as lost."""


class EventSource:
    """Server-sent events of one answer.

    Args:
        response: the answer, of which only the headers have been read.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = response.iter_bytes()
        self._parser = MessageParser()
        self._socket = response.extensions["network_stream"].get_extra_info("socket")

    def messages(self) -> list[Message]:
        """Wait for the next messages, and return all that have arrived.

        Raises:
            ConnectionLost: the connection was lost, or the server has ended the subscription.
        """
        found: list[Message] = []
        try:
            while not found:
                found = self._parser.feed(next(self._chunks))
        except StopIteration:
            raise ConnectionLost("the server has ended the subscription") from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ConnectionLost(f"the subscription's connection was lost ({reason})") from error
        return found

    def abort(self) -> None:
        """Break the connection, which ends a wait for messages. Any thread may call it."""
        # A copy, since the socket of TLS or of an event loop cannot be shut down from elsewhere.
        with suppress(OSError), socket.socket(fileno=os.dup(self._socket.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with suppress(httpx.HTTPError, OSError):
            self._response.close()
