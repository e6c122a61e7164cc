"""Forks: a child process cannot use a store that its parent opened, and the parent is not affected.

Each test runs a program of its own, so that the exit of a child does not run the exit handlers of
the test runner.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PREAMBLE = """
import asyncio, gc, multiprocessing, os, sys, threading
from indelible import *
from indelible.errors import *
url, schema = sys.argv[1:]

def event():
    return NewEvent("Happened", {})

def refused(*uses):
    for number, use in enumerate(uses):
        try:
            use()
        except StoreForked as error:
            assert "connect again in this process" in str(error)
        else:
            raise AssertionError(f"use {number} was not refused")

def forked(child):
    pid = os.fork()
    if pid:
        return pid
    child()
    gc.collect()
    sys.exit()  # with all that is done at the end of a program

def wait_for(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run(program: str, url: str, schema: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PREAMBLE + program, url, schema],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def test_all_that_a_store_does_is_refused_in_the_child_and_the_parent_goes_on(
    url: str, schema: str
) -> None:
    run(
        """
store = EventStore.connect(url, schema=schema, pool_size=3)
store.append("a-1", [event(), event(), event()], expected=NO_STREAM)
store.group("g").create()
consumer = store.group("g").consume()
delivery = consumer.take(20)
subscription = store.subscribe()
seen = [next(subscription) for _ in range(3)]
reader = store.read_all()

def child():
    consumer_of_child = store.group("g")
    refused(
        lambda: store.append("a-1", event(), expected=ANY),
        lambda: store.append_many([StreamAppend("a-1", [event()], ANY)]),
        lambda: list(store.read("a-1")),
        lambda: list(reader),
        store.head,
        lambda: store.transaction().__enter__(),
        lambda: store.bind(object()),
        lambda: next(subscription),
        lambda: next(store.subscribe()),
        lambda: consumer.take(1),
        lambda: consumer_of_child.consume(),
    )
    subscription.stop()
    consumer.close()
    store.close()
    with EventStore.connect(url, schema=schema) as own:
        own.append("of-child", event(), expected=NO_STREAM)

wait_for(forked(child))
for version in range(3, 40):
    assert store.append("a-1", event(), expected=version - 1).version == version
delivery.ack()
assert next(subscription).stream == "of-child"
assert consumer.take(20) is not None
consumer.close()
store.close()
""",
        url,
        schema,
    )


def test_the_async_store_is_refused_in_the_child_and_the_parent_goes_on(
    url: str, schema: str
) -> None:
    run(
        """
with asyncio.Runner() as runner:
    async def connect():
        return await AsyncEventStore.connect(url, schema=schema, pool_size=3)

    async def append(version):
        assert (await store.append("a-1", event(), expected=version - 1)).version == version

    async def transact():
        async with store.transaction():
            pass

    store = runner.run(connect())
    runner.run(append(0))

    def child():
        refused(
            lambda: asyncio.run(store.append("a-1", event(), expected=ANY)),
            lambda: asyncio.run(store.head()),
            lambda: asyncio.run(transact()),
        )
        asyncio.run(store.close())
        os._exit(0)  # the runner is the parent's

    wait_for(forked(child))
    for version in range(1, 40):
        runner.run(append(version))
    runner.run(store.close())
""",
        url,
        schema,
    )


def test_a_parent_that_appends_by_threads_is_not_disturbed(url: str, schema: str) -> None:
    run(
        """
store = EventStore.connect(url, schema=schema, pool_size=3)
stop, failures, counts = threading.Event(), [], [0] * 4

def append(number):
    try:
        version = -1
        while not stop.is_set():
            version += 1
            result = store.append(f"a-{number}", event(), expected=version - 1)
            assert (result.stream, result.version) == (f"a-{number}", version)
            counts[number] = version + 1
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=append, args=[number]) for number in range(4)]
for thread in threads:
    thread.start()
for round in range(1, 6):
    while min(counts) < 5 * round and not failures:
        pass
    wait_for(forked(lambda: refused(lambda: store.append("b-1", event(), expected=ANY))))
reached = list(counts)
while min(map(int.__sub__, counts, reached)) < 5 and not failures:
    pass
stop.set()
for thread in threads:
    thread.join(30)
    assert not thread.is_alive()
assert not failures, failures
for number, count in enumerate(counts):
    assert len(list(store.read(f"a-{number}"))) == count
assert store.stream("b-1") is None
store.close()
""",
        url,
        schema,
    )


def test_a_child_ends_although_a_thread_of_its_parent_had_all_locks(url: str, schema: str) -> None:
    """Nobody gives them back in the child, which has no other threads."""
    run(
        """
import signal
store = EventStore.connect(url, schema=schema, pool_size=3)
store.append("a-1", [event(), event()], expected=NO_STREAM)
store.group("g").create()
consumer = store.group("g").consume()
delivery = consumer.take(20)
subscription = store.subscribe()
next(subscription)
has_all, may_end = threading.Event(), threading.Event()

def hold():
    with (
        store._wakeup._control.guard,
        store._engine._pool._lock,
        consumer._changed,
    ):
        has_all.set()
        may_end.wait()

def child():
    signal.alarm(20)
    refused(lambda: transaction.append("a-1", event(), expected=ANY))
    subscription.stop()
    consumer.close()
    store.close()

with store.transaction() as transaction:
    transaction.head()
    thread = threading.Thread(target=hold)
    thread.start()
    has_all.wait()
    try:
        pid = forked(child)
    finally:
        may_end.set()
    wait_for(pid)
    transaction.append("a-1", event(), expected=1)
delivery.ack()
consumer.close()
store.close()
""",
        url,
        schema,
    )


def test_processes_of_multiprocessing_are_refused(url: str, schema: str) -> None:
    run(
        """
store = EventStore.connect(url, schema=schema, pool_size=2)
store.append("a-1", event(), expected=NO_STREAM)

def work(results):
    refused(store.head, lambda: store.append("a-1", event(), expected=ANY))
    results.put("refused")

context = multiprocessing.get_context("fork")
results = context.Queue()
workers = [context.Process(target=work, args=[results]) for _ in range(3)]
for worker in workers:
    worker.start()
assert [results.get(timeout=60) for _ in workers] == ["refused"] * 3
for worker in workers:
    worker.join(60)
    assert worker.exitcode == 0
assert store.append("a-1", event(), expected=0).version == 1
store.close()
""",
        url,
        schema,
    )


def test_a_transaction_around_the_fork_is_the_parent_s(url: str, schema: str) -> None:
    run(
        """
store = EventStore.connect(url, schema=schema, pool_size=2)

def leave():
    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=NO_STREAM)
        pid = os.fork()
        if pid == 0:
            refused(lambda: transaction.append("a-1", event(), expected=0))
        else:
            wait_for(pid)
            transaction.append("a-1", event(), expected=0)
    return pid

parent = os.getpid()
try:
    leave()
except StoreForked:
    assert os.getpid() != parent
    sys.exit()
assert os.getpid() == parent
assert len(list(store.read("a-1"))) == 2
store.close()
""",
        url,
        schema,
    )


def test_a_child_does_not_keep_the_sessions_of_a_parent_that_has_ended(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    name = f"fork_{uuid4().hex[:8]}"
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PREAMBLE
            + """
store = EventStore.connect(url, schema=schema, pool_size=2)
subscription = store.subscribe()
store.append("a-1", event(), expected=NO_STREAM)
next(subscription)
pid = os.fork()
if pid:
    print(pid, flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.close()
threading.Event().wait(120)
""",
            make_conninfo(url, application_name=name),
            schema,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    child = int(program.stdout.readline())
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    try:
        assert connection.execute(sessions, [name]).fetchone() != (0,)
        program.stdin.close()
        program.wait(30)
        os.kill(child, 0)  # the process is alive
        wait_until(lambda: connection.execute(sessions, [name]).fetchone() == (0,))
    finally:
        os.kill(child, signal.SIGKILL)
        program.stdout.close()
