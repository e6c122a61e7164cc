"""The primitives that generated code waits with."""

from __future__ import annotations

import asyncio
import threading

import pytest

from indelible.core.concurrency import Background
from indelible.core.concurrency_async import AsyncBackground, AsyncEvent, cancel_async


def test_an_event_set_before_anybody_waits_is_set() -> None:
    event = AsyncEvent()
    event.set()
    assert asyncio.run(event.wait(0))


def test_an_event_set_by_another_thread_wakes_all_who_wait() -> None:
    async def both() -> list[bool]:
        event = AsyncEvent()
        waiting = [asyncio.create_task(event.wait(10)) for _ in range(2)]
        await asyncio.sleep(0)
        threading.Thread(target=event.set).start()
        return await asyncio.gather(*waiting)

    assert asyncio.run(both()) == [True, True]


def test_an_event_that_was_cleared_is_not_set_by_its_last_call() -> None:
    async def cleared() -> bool:
        event = AsyncEvent()
        assert not await event.wait(0)
        event.set()
        event.clear()
        return await event.wait(0.01)

    assert not asyncio.run(cleared())


def test_the_error_of_a_thread_is_raised_where_it_is_asked_for() -> None:
    def fail() -> None:
        raise ValueError("broken")

    background = Background(fail, name="failing")
    background.join()
    assert not background.is_running
    with pytest.raises(ValueError, match="broken"):
        background.raise_failure()


def test_the_error_of_a_task_is_raised_where_it_is_asked_for() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async def ask() -> None:
        background = AsyncBackground(fail, name="failing")
        await background.join()
        background.raise_failure()

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(ask())


def test_who_is_cancelled_while_joining_ends_the_task() -> None:
    async def join() -> bool:
        background = AsyncBackground(asyncio.Event().wait, name="endless")
        waiting = asyncio.create_task(background.join())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        await asyncio.sleep(0)
        return background.is_running

    assert not asyncio.run(join())


def test_cancelled_tasks_have_ended() -> None:
    async def end() -> list[bool]:
        work = [AsyncBackground(asyncio.Event().wait, name="endless") for _ in range(2)]
        assert [one.is_running for one in work] == [True, True]
        await cancel_async(work)
        return [one.is_running for one in work]

    assert asyncio.run(end()) == [False, False]
