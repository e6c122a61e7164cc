"""Concurrent commands; docs/explanation/aggregates.md has the argument."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from threading import Barrier
from uuid import UUID, uuid4

import pytest

from indelible import AsyncEventStore, EventStore, Snapshots, WrongExpectedVersion
from indelible.aggregates import LoadedState
from tests.support.accounts import (
    Account,
    AccountEvent,
    AccountState,
    Deposit,
    Refused,
    Withdraw,
    accounts,
)

THREADS = 16
ROUNDS = 12
STREAMS = ("account-1", "account-2", "account-3")
ENOUGH = 1_000
"""Attempts: among 16 one always goes on, so nobody needs nearly as many."""


class KeptAccount(Account):
    snapshots = Snapshots(every=5)


@pytest.fixture
def account_store(url: str, schema: str) -> Iterator[EventStore]:
    with EventStore.connect(url, schema=schema, events=AccountEvent, pool_size=8) as store:
        yield store


def storm(store: EventStore, change: Callable[[str, int], tuple[int, int]]) -> None:
    """Change three accounts from 16 threads, and see that each change was decided on what was so.

    Args:
        store: where the accounts are.
        change: changes an account by an amount; returns its version and balance after that.
    """
    together = Barrier(THREADS, timeout=30)

    def run(number: int) -> list[tuple[str, int, int, int]]:
        done = []
        random = Random(number)
        together.wait()
        for _ in range(ROUNDS):
            stream, amount = random.choice(STREAMS), random.randint(-5, 9)
            try:
                version, balance = change(stream, amount)
            except Refused:
                continue
            done.append((stream, version, amount, balance))
        return done

    with ThreadPoolExecutor(THREADS) as threads:
        told = [change for done in threads.map(run, range(THREADS)) for change in done]
    replayed = []
    for stream in STREAMS:
        balance = 0
        for event in store.read(stream):
            amount = event.data.amount * (1 if event.type == "Deposited" else -1)
            balance += amount
            assert balance >= 0
            replayed.append((stream, event.version, amount, balance))
        assert store.load(stream, accounts) == LoadedState(
            AccountState(None, balance), event.version
        )
    assert sorted(told) == replayed


def test_a_storm_of_commands_ends_with_the_right_sums(account_store: EventStore) -> None:
    kept = replace(accounts, snapshots=Snapshots(every=5))

    def change(stream: str, amount: int) -> tuple[int, int]:
        command = Deposit(amount) if amount >= 0 else Withdraw(-amount)
        handled = account_store.handle(stream, kept, command, attempts=ENOUGH)
        return handled.version, handled.state.balance

    storm(account_store, change)


def test_a_storm_of_writing_ends_with_the_right_sums(account_store: EventStore) -> None:
    conflicts = []

    def change(stream: str, amount: int) -> tuple[int, int]:
        while True:
            try:
                with account_store.writing(KeptAccount, stream) as account:
                    if amount >= 0:
                        account.deposit(amount)
                    else:
                        account.withdraw(-amount)
                return account.version, account.balance
            except WrongExpectedVersion as conflict:
                conflicts.append(conflict)

    storm(account_store, change)
    assert conflicts, "nobody met anybody: this was no storm"


def test_commands_that_come_twice_at_once_are_handled_once(account_store: EventStore) -> None:
    """Each command is handled by two threads, while others move the streams on."""
    ids = [[uuid4() for _ in range(ROUNDS)] for _ in range(THREADS // 2)]
    together = Barrier(THREADS, timeout=30)

    def run(number: int) -> dict[UUID, tuple[int, int]]:
        together.wait()
        results = {}
        for place, command_id in enumerate(ids[number // 2]):
            stream = STREAMS[place % len(STREAMS)]
            handled = account_store.handle(
                stream, accounts, Deposit(1), command_id=command_id, attempts=ENOUGH
            )
            assert handled.result is not None
            results[command_id] = (handled.result.position, handled.state.balance)
        return results

    with ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(run, range(THREADS)))

    assert results[::2] == results[1::2]
    stored = [account_store.load(stream, accounts).state.balance for stream in STREAMS]
    assert sum(stored) == sum(map(len, ids))


def test_a_storm_of_tasks_ends_with_the_right_sum(url: str, schema: str) -> None:
    async def race() -> int:
        async with AsyncEventStore.connect(url, schema=schema, events=AccountEvent) as store:
            await asyncio.gather(
                *(
                    store.handle("account-1", accounts, Deposit(1), attempts=ENOUGH)
                    for _ in range(60)
                )
            )
            return (await store.load("account-1", accounts)).state.balance

    assert asyncio.run(race()) == 60
