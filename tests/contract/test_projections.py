"""Projections: what is kept up to date from events, inline, async and live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from indelible import (
    ANY,
    DocumentProjection,
    EventStore,
    LeaseLost,
    RecordedEvent,
    StreamAppend,
    handles,
)
from tests.conftest import Connect


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Paid:
    cents: int
    to: str


@dataclass(frozen=True)
class Closed:
    pass


EVENTS = [Opened, Paid, Closed]


@dataclass(frozen=True)
class Account:
    owner: str
    cents: int = 0


class Accounts(DocumentProjection[Account]):
    """Of one stream each."""

    name = "accounts"
    indexes = ("owner",)

    @handles(Opened)
    def opened(self, account: Account | None, event: RecordedEvent) -> Account:
        return Account(event.data.owner)

    @handles(Paid)
    def paid(self, account: Account | None, event: RecordedEvent) -> Account | None:
        return account and Account(account.owner, account.cents - event.data.cents)

    @handles(Closed)
    def closed(self, account: Account | None, event: RecordedEvent) -> None:
        return None


class Receipts(DocumentProjection[dict]):
    """Of several streams: what came to each."""

    name = "receipts"

    def key(self, event: RecordedEvent) -> Sequence[str]:
        return [event.data.to, "all"]

    @handles(Paid)
    def paid(self, receipt: dict | None, event: RecordedEvent) -> dict:
        return {"cents": (receipt or {"cents": 0})["cents"] + event.data.cents}


def write_some(store: EventStore) -> None:
    store.append("account-1", [Opened("ann"), Paid(5, "bob")], expected=ANY)
    store.append("account-2", [Opened("cid"), Paid(7, "bob"), Paid(1, "ann")], expected=ANY)
    store.append_many(
        [
            StreamAppend("account-3", [Opened("ann"), Closed()], ANY),
            StreamAppend("account-1", Paid(10, "eve"), ANY),
        ]
    )


ACCOUNTS = {"account-1": Account("ann", -15), "account-2": Account("cid", -8)}
RECEIPTS = {
    "all": {"cents": 23},
    "ann": {"cents": 1},
    "bob": {"cents": 12},
    "eve": {"cents": 10},
}


def test_an_inline_projection_is_there_with_the_append(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Accounts, Receipts])
    write_some(store)

    assert dict(store.documents(Accounts).find()) == ACCOUNTS
    assert dict(store.documents(Receipts).find()) == RECEIPTS


def test_an_async_projection_is_there_once_it_has_caught_up(connect: Connect) -> None:
    store = connect(events=EVENTS)
    write_some(store)

    head = store.catch_up(Accounts)
    store.catch_up(Receipts)

    found = store.documents(Accounts).find()
    assert dict(found) == ACCOUNTS
    assert (found.checkpoint, found.head, found.is_current) == (head, store.head(), True)
    assert dict(store.documents(Receipts).find()) == RECEIPTS


def test_a_live_projection_is_folded_as_it_is_read(connect: Connect) -> None:
    store = connect(events=EVENTS)
    write_some(store)

    assert store.project(Accounts).documents == ACCOUNTS
    assert store.project(Accounts, "account-2").document == ACCOUNTS["account-2"]
    assert store.project(Receipts, "bob").document == {"cents": 12}


def test_a_projector_that_was_taken_for_dead_stores_nothing(connect: Connect) -> None:
    store = connect(events=EVENTS)
    write_some(store)
    first = store.projector(Accounts, lease=0.001)
    second = store.projector(Accounts)
    assert first.take_over()
    while not second.take_over():
        pass
    with pytest.raises(LeaseLost):
        first.step()
    assert not store.documents(Accounts).find()
    second.step()
    assert dict(store.documents(Accounts).find()) == ACCOUNTS
