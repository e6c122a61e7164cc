"""Primitives that differ between threads and tasks: the sync variant of `concurrency_async`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

IS_ASYNC = False
"""Whether this is the async variant."""

sleep = time.sleep
"""Wait for a number of seconds."""

Lock = threading.Lock
"""A lock between threads."""

Event = threading.Event
"""An event that any thread may set, and that any number of threads can wait for."""


class Background:
    """A background thread.

    Args:
        work: the function that it runs.
        name: its name.

    Raises:
        RuntimeError: the process cannot start more threads.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended, at most `seconds`."""
        self._thread.join(seconds)

    def raise_failure(self) -> None:
        """Raise the error that ended the thread, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._failure = error
            if not isinstance(error, Exception):
                raise


def cancel(work: Iterable[Background]) -> None:
    """Do nothing: threads cannot be cancelled, and end with the process."""


class Begun:
    """The base of objects that begin when they are made; async ones begin when awaited."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        raise NotImplementedError


def opens(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that opens a resource unchanged: its result is open and can be entered."""
    return function


def is_set_within(event: threading.Event, seconds: float) -> bool:
    """Wait for the caller's event, at most `seconds`; return whether it is set."""
    return event.wait(seconds)


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function."""
    return function(*args, **kwargs)
