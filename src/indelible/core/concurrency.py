"""What threads and tasks do differently: the sync variant of `concurrency_async`."""

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
"""Wait for so many seconds."""

Event = threading.Event
"""An event that any thread may set, and any number of threads wait for."""


class Background:
    """A thread that works beside the caller's.

    Args:
        work: what it does.
        name: its name.

    Raises:
        RuntimeError: the process can have no more threads.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def join(self, seconds: float | None = None) -> None:
        """Wait until it has ended, so many seconds at most."""
        self._thread.join(seconds)

    def raise_failure(self) -> None:
        """Raise the error that has ended it, if one has."""
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
    """Leave alone what has not ended: threads cannot be cancelled, and end with the process."""


class Begun:
    """What begins when it is made; its async variant, when it is awaited."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        raise NotImplementedError


def opens(function: Callable[P, T]) -> Callable[P, T]:
    """Leave a function that opens something as it is: its result is open, and can be entered."""
    return function


def is_set_within(event: threading.Event, seconds: float) -> bool:
    """Wait for an event of the caller's, so many seconds at most; return whether it is set."""
    return event.wait(seconds)


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks."""
    return function(*args, **kwargs)
