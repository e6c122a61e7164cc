"""Interrupted callers of the group commit: other callers never wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from indelible import ConnectionLost
from indelible.core.operation import AppendStatement
from indelible.postgres.group_commit import GroupCommit
from tests.support.interrupts import Interrupted, interrupted_at
from tests.support.waiting import wait_until
from tests.unit.postgres.test_group_commit import APPENDED, entry

_SOON = 5
_FILES = ("postgres/group_commit.py", "postgres/commit_queue.py")


class Database:
    """What appends are sent to. `before` says what is done before one of a stream is answered."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.commit = GroupCommit(self._execute, 3, timeout=60)
        self.commit.open()
        self.threads = ThreadPoolExecutor(5)

    def _execute(
        self, statement: AppendStatement, meanwhile: Callable[[], bool] | None
    ) -> list[tuple[Any, ...]]:
        names = [statement.parameters.get("stream") or str(statement.parameters.get("appends"))]
        if meanwhile is not None:
            meanwhile()
        for name, wait_for in list(self.before.items()):
            if name in str(names[0]):
                wait_for()
        if statement.name == "streams.append":
            return [APPENDED]
        number = str(statement.parameters["appends"]).count('"stream"')
        return [(place, *APPENDED) for place in range(1, number + 1)]

    def append(self, name: str) -> Any:
        return self.commit.append(entry(name).statement)

    def append_aside(self, name: str) -> Future[Any]:
        return self.threads.submit(self.append, name)

    def waits(self, name: str) -> bool:
        arrived = [given.ordering_key for given in self.commit._arrived.copy()]
        return name in arrived or name in self.commit._queue._waiting

    def close(self) -> None:
        self.threads.shutdown()
        self.commit.close()


def has_outcomes(futures: list[Future[Any]]) -> bool:
    done, late = wait(futures, timeout=_SOON)
    return not late and all(future.result() == [APPENDED] for future in done)


def interrupt_the_one_that_others_wait_for(place: int) -> Interrupted:
    """Others wait while the main thread's append is under way; it is interrupted from there on."""
    database = Database()
    futures: list[Future[Any]] = []

    def let_others_come() -> None:
        if threading.current_thread() is threading.main_thread():
            futures.extend(map(database.append_aside, ("same", "b", "c")))
            wait_until(lambda: all(map(database.waits, ("same", "b", "c"))))

    with interrupted_at(place, *_FILES) as told:
        database.before["same"] = let_others_come
        database.append("same")
    if futures:
        assert has_outcomes(futures), f"interrupted at place {place}: the others wait for ever"
    assert has_outcomes([database.append_aside(name) for name in ("same", "b", "d")]), place
    database.close()
    return told


def interrupt_one_that_waits(place: int) -> Interrupted:
    """The main thread's append waits behind another of its stream, with neighbours."""
    database = Database()
    may_go_on = threading.Event()
    database.before["same"] = lambda: may_go_on.wait(_SOON)
    futures = [database.append_aside("same")]
    wait_until(lambda: "same" in database.commit._passing)
    futures.append(database.append_aside("same"))
    futures.append(database.append_aside("b"))
    releasing = threading.Timer(0.01, may_go_on.set)
    with interrupted_at(place, *_FILES) as told:
        releasing.start()
        database.append("same")
    may_go_on.set()
    assert has_outcomes(futures), f"interrupted at place {place}: the others wait for ever"
    assert has_outcomes([database.append_aside(name) for name in ("same", "b", "d")]), place
    database.close()
    return told


@pytest.mark.parametrize(
    "interrupt", [interrupt_the_one_that_others_wait_for, interrupt_one_that_waits]
)
def test_wherever_a_caller_is_interrupted_nobody_waits_for_it(
    interrupt: Callable[[int], Interrupted],
) -> None:
    place = 1
    while interrupt(place).happened:
        place += 1
    assert place > 8


def test_an_append_that_is_never_sent_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database()
    may_go_on = threading.Event()
    database.before["a"] = lambda: may_go_on.wait(60)
    first = database.append_aside("a")
    wait_until(lambda: "a" in database.commit._passing)
    monkeypatch.setattr(database.commit, "_timeout", 0.1)
    with pytest.raises(ConnectionLost, match="not known"):
        database.append("a")
    may_go_on.set()
    assert has_outcomes([first, database.append_aside("a")])
    database.close()
