"""Running applications: errors outside their handlers."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest

from indelible import (
    ANY,
    App,
    AsyncApp,
    Delivery,
    DocumentProjection,
    EventStore,
    InvalidInput,
    NewEvent,
    RecordedEvent,
    handles,
)
from tests.support.interleavings import Proxy
from tests.support.waiting import wait_until


class Running:
    """An application of one variant, running in a thread."""

    def __init__(
        self, variant: str, url: str, schema: str, resources: Any = (), **options: Any
    ) -> None:
        self.app: Any = (App if variant == "sync" else AsyncApp)(
            "mails", url=url, schema=schema, resources=resources
        )
        self.seen: list[int] = []
        self.work: Callable[[Any], None] = lambda event: None
        self.failure: BaseException | None = None
        self._options = options
        self._stop: Any = None

        def see(event: Any) -> None:
            self.seen.append(event.position)
            self.work(event)

        async def see_async(event: Any) -> None:
            see(event)

        self.app.on("Happened")(see if variant == "sync" else see_async)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop()
        self.join()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            if isinstance(self.app, App):
                stop = threading.Event()
                self._stop = stop.set
                self.app.run(stop, **self._options)
            else:
                asyncio.run(self._run_async())
        except BaseException as error:
            self.failure = error

    async def _run_async(self) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stop.set)
        await self.app.run(stop, **self._options)


@pytest.fixture(params=["sync", "async"])
def running(request: pytest.FixtureRequest, url: str, schema: str) -> Running:
    return Running(request.param, url, schema, report_interval=0.02)


def test_an_application_goes_on_where_it_cannot_report(
    running: Running,
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "indelible.app")
    running.start()
    wait_until(lambda: "group status" in caplog.text)
    wait_until(lambda: sync_store.group("mails").info().workers)
    connection.execute(f"ALTER FUNCTION {schema}.group_checkpoint RENAME TO gone")
    wait_until(lambda: "cannot read the status of" in caplog.text)
    last = sync_store.append("a-1", NewEvent("Happened", {}), expected=ANY).position
    wait_until(lambda: running.seen == [last])
    connection.execute(f"ALTER FUNCTION {schema}.gone RENAME TO group_checkpoint")
    running.stop()
    assert running.failure is None
    assert sync_store.group("mails").info().checkpoint == last


def test_an_application_whose_second_group_is_refused_leaves_the_first(
    running: Running, sync_store: EventStore
) -> None:
    sync_store.group("other").create(partition_by="tag:course")
    other = running.app.on("Happened", group="other")
    other(running.app._parts["mails"].handlers["Happened"])
    running.start()
    running.join()
    assert isinstance(running.failure, InvalidInput)
    assert sync_store.group("mails").info().workers == ()


@pytest.mark.parametrize("variant", ["sync", "async"])
@pytest.mark.usefixtures("sync_store")
def test_an_application_that_stops_without_the_database_does_not_wait_for_it(
    variant: str, url: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However many groups it has: they end at the same time, and it asks for the status once."""
    caplog.set_level(logging.INFO, "indelible.app")
    with Proxy(url) as address:
        running = Running(variant, address.url, schema, report_interval=0.02)
        running.app.concurrency = 1
        for number in range(20):
            other = running.app.on("Happened", group=f"other-{number}")
            other(running.app._parts["mails"].handlers["Happened"])
        running.app.projections = (Mails(),)
        running.start()
        wait_until(lambda: "projection status" in caplog.text)
        address.refuse()
        wait_until(lambda: "a worker waits" in caplog.text)
        begun = time.monotonic()
        running.stop()
        assert time.monotonic() - begun < 15
    assert running.failure is None


class Odd(BaseException):
    """No exception as code usually raises."""


class Unspeakable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


RAISED = {
    "error": ValueError("wrong"),
    "bytes": ValueError(os.fsdecode(b"\xe9\0")),
    "unspeakable": Unspeakable(),
    "exit": SystemExit(3),
    "odd": Odd("strange"),
    "cancelled": asyncio.CancelledError(),
}


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED)
def test_whatever_a_handler_raises_is_a_failure_of_its_event(
    running: Running, sync_store: EventStore, raised: BaseException
) -> None:
    """Otherwise the event would be held for ever, or come again for ever."""

    def work(event: Any) -> None:
        if event.stream == "a-1":
            raise raised

    running.work = work
    running.app.group("mails", retry_after=0.01, max_attempts=2)
    position = sync_store.append("a-1", NewEvent("Happened", {}), expected=ANY).position
    running.start()
    group = sync_store.group("mails")
    wait_until(lambda: running.seen == [position, position])
    wait_until(group.parked)
    (parked,) = group.parked()
    assert (parked.position, parked.attempts) == (position, 2)
    assert (parked.error or "").startswith(f"{type(raised).__name__}: ")
    last = sync_store.append("b-1", NewEvent("Happened", {}), expected=ANY).position
    wait_until(lambda: running.seen[2:] == [last])
    running.stop()
    assert running.failure is None


def test_an_error_after_a_word_leaves_the_word(running: Running, sync_store: EventStore) -> None:
    def work(event: Any) -> None:
        event.ack()
        raise ValueError("too late")

    running.work = work
    positions = [
        sync_store.append("a-1", NewEvent("Happened", {}), expected=ANY).position for _ in range(3)
    ]
    running.start()
    wait_until(lambda: running.seen == positions)
    running.stop()
    assert running.failure is None
    assert sync_store.group("mails").info().checkpoint == positions[-1]


@pytest.mark.parametrize("variant", ["sync", "async", "async with"])
def test_handlers_take_resources_that_are_open_while_the_application_runs(
    url: str, schema: str, sync_store: EventStore, variant: str
) -> None:
    seen: list[str] = []

    @contextmanager
    def mailer() -> Iterator[list[str]]:
        seen.append("opened")
        yield seen
        seen.append("closed")

    @asynccontextmanager
    async def async_mailer() -> AsyncIterator[list[str]]:
        with mailer() as opened:
            yield opened

    def send(event: Any, mailer: list[str], *, sign: str = "!") -> None:
        mailer.append(event.type + sign)

    async def send_async(event: Any, *, mailer: list[str]) -> None:
        send(event, mailer)

    factory = async_mailer if variant == "async with" else mailer
    running = Running(variant.split()[0], url, schema, resources={"mailer": factory})
    handler = send if variant == "sync" else send_async
    running.app.on("Noted")(handler)
    running.app.on("Noted", group="other")(handler)
    for kind in ("Noted", "Happened"):
        sync_store.append("a-1", NewEvent(kind, {}), expected=ANY)
    running.start()
    try:
        wait_until(lambda: len(seen) == 3 and running.seen)
    finally:
        running.stop()

    assert (running.failure, seen) == (None, ["opened", "Noted!", "Noted!", "closed"])


@pytest.mark.parametrize("variant", ["sync", "async"])
def test_an_application_whose_resource_cannot_be_opened_does_not_run(
    url: str, schema: str, sync_store: EventStore, variant: str
) -> None:
    running = Running(variant, url, schema, resources={"mailer": list})
    running.start()
    running.join()
    assert isinstance(running.failure, InvalidInput)
    assert "'mailer' must be a function that returns a context manager" in str(running.failure)
    assert sync_store.groups() == []


class Holder:
    """Something that is called, and whose outcome is to be awaited."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    async def __call__(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.seen.append("awaited")


def test_an_async_application_takes_whatever_can_be_called(
    url: str, schema: str, sync_store: EventStore
) -> None:
    running = Running("async", url, schema)
    seen: list[str] = []

    def plain(event: Any) -> None:
        seen.append("plain")

    running.app.on("Noted")(plain)
    running.app.on("Held")(Holder(seen))
    for kind in ("Noted", "Held"):
        last = sync_store.append("a-1", NewEvent(kind, {}), expected=ANY).position
    running.start()
    try:
        wait_until(lambda: len(seen) == 2)
        wait_until(lambda: sync_store.group("mails").info().checkpoint == last)
    finally:
        running.stop()

    assert (running.failure, seen) == (None, ["plain", "awaited"])


class Mails(DocumentProjection[dict]):
    name = "mails"

    @handles("Mailed")
    def mailed(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"count": (document or {"count": 0})["count"] + 1}


@pytest.mark.parametrize("variant", ["sync", "async"])
def test_a_handler_that_returns_what_is_still_to_be_done_has_failed(
    sync_store: EventStore, url: str, schema: str, variant: str
) -> None:
    sync_store.append("a-1", NewEvent("Noted", {}), expected=ANY)
    sync_store.group("mails").create(max_attempts=1)
    running = Running(variant, url, schema)
    running.app.group("mails", max_attempts=1)

    async def later() -> None: ...

    def unfinished(event: Any) -> Any:
        return later()

    async def unfinished_async(event: Any) -> Any:
        return later()

    running.app.on("Noted")(unfinished if variant == "sync" else unfinished_async)
    running.start()
    try:
        wait_until(sync_store.group("mails").parked)
    finally:
        running.stop()

    (parked,) = sync_store.group("mails").parked()
    assert "returned a coroutine, which is never run" in (parked.error or "")


def test_what_a_handler_appends_brings_inline_projections_up_to_date(
    url: str, schema: str, sync_store: EventStore
) -> None:
    app = App("mails", url=url, schema=schema, inline=[Mails])
    stop = threading.Event()

    def mail(event: Delivery) -> None:
        with event.transaction() as transaction:
            transaction.append("mail-1", NewEvent("Mailed", {}), expected=ANY)

    app.on("Happened")(mail)
    thread = threading.Thread(target=app.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: [group.name for group in sync_store.groups()] == ["mails"])
        position = sync_store.append("a-1", NewEvent("Happened", {}), expected=ANY).position
        sync_store.wait_for("mails", position)
        assert sync_store.documents(Mails).read("mail-1") == {"count": 1}
    finally:
        stop.set()
        thread.join()


def test_a_handler_that_waits_for_something_cancelled_has_failed(
    url: str, schema: str, sync_store: EventStore
) -> None:
    """Something that it waited for was cancelled, and not the task that it runs in."""
    app = AsyncApp("mails", url=url, schema=schema, concurrency=1)
    app.group("mails", retry_after=0.01, max_attempts=5)
    attempts: list[int] = []

    @app.on("Happened")
    async def handle(event: Any) -> None:
        attempts.append(event.attempt)
        if len(attempts) < 3:
            forgotten = asyncio.create_task(asyncio.sleep(60))
            forgotten.cancel()
            await forgotten

    sync_store.append("a-1", NewEvent("Happened", {}), expected=ANY)

    async def run() -> None:
        stop = asyncio.Event()
        working = asyncio.create_task(app.run(stop))
        await asyncio.to_thread(wait_until, lambda: len(attempts) == 3)
        stop.set()
        await working

    asyncio.run(run())
    assert attempts == [1, 2, 3]
    assert sync_store.group("mails").info().checkpoint == 1
