"""The control connection waits for notifications, and misses none."""

from __future__ import annotations

import threading
from math import inf
from select import select

import psycopg
import pytest

from indelible.postgres.control_connection import ControlConnection, Session
from indelible.postgres.settings import Settings

_CHANNEL = "of the test"


class Listening:
    """Reads a notification from the socket, as a statement may that the server has answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.is_begun = False
        self.heard = threading.Event()

    def due_at(self) -> float:
        """Once."""
        return inf if self.is_begun else 0.0

    def begin(self, session: Session) -> None:
        """Listen."""
        session.listen(_CHANNEL, lambda payload: self.heard.set())

    def act(self, session: Session) -> None:
        """Have a notification sent, and read what arrives without looking at it."""
        self.is_begun = True
        with psycopg.connect(self._url, autocommit=True) as other:
            other.execute("SELECT pg_notify(%s, '')", [_CHANNEL])
        assert select([session.connection], [], [], 20)[0]
        session.connection.pgconn.consume_input()

    def fail(self, problem: Exception) -> None:
        """Fail the test."""
        raise problem

    def lose(self) -> None:
        """Do nothing."""


def test_a_notification_that_came_with_an_answer_is_heard_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in the socket shows it any more."""
    control = ControlConnection(Settings(url))
    task = Listening(url)
    control.serve(task)
    control.wake_by(0)
    try:
        assert task.heard.wait(3)  # the thread gives up, and ends, after five seconds
    finally:
        control.close()
