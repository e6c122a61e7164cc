"""Metadata that a store gives to all events that it appends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from indelible import (
    ANY,
    Aggregate,
    DecisionModel,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    StreamAppend,
)
from tests.conftest import Connect


@dataclass(frozen=True)
class Opened:
    owner: str


class Account(Aggregate[Opened]):
    def open(self) -> None:
        self.record(Opened("ann"))

    def evolve(self, event: Opened) -> None:
        pass


def metadata(store: EventStore) -> list[dict[str, Any]]:
    return [event.metadata for event in store.read_all()]


def test_every_append_has_the_metadata_of_the_store(connect: Connect) -> None:
    request: dict[str, Any] = {}
    store = connect(events=[Opened], metadata=lambda: request or None)
    none_yet = DecisionModel(Query(types="Opened", tags="a:1"), 0, lambda state, event: state + 1)

    store.append("a-1", Opened("ann"), expected=ANY)
    request |= {"request": "r1", "source": "web"}
    store.append("a-1", Opened("ann"), expected=ANY, metadata={"source": "job"})
    store.append("a-1", NewEvent("Opened", Opened("x"), metadata={"request": "own"}), expected=ANY)
    store.append_many([StreamAppend("a-2", Opened("ann"), ANY)])
    store.append(None, Opened("ann"))
    store.handle("a-3", Account, lambda account: account.open())
    with store.writing(Account, "a-4") as account:
        account.open()
    with store.transaction() as transaction:
        transaction.append("a-5", Opened("ann"), expected=ANY)
    with store.decide(none_yet, metadata={"decision": 1}) as decision:
        decision.append(None, Opened("ann"), metadata={"decision": 2})
    store.decide_with(lambda state: Opened("bob"), none_yet, metadata={"source": "rule"})

    assert metadata(store) == [
        {},
        {**request, "source": "job"},
        {**request, "request": "own"},
        request,
        request,
        request,
        request,
        request,
        {**request, "decision": 2},
        {**request, "source": "rule"},
    ]


def test_what_gives_no_metadata_is_refused(connect: Connect) -> None:
    async def later() -> dict[str, Any]:
        return {}

    wrong: list[Any] = [{"by": "ann"}, later]
    for value in wrong:
        with pytest.raises(InvalidInput, match="metadata must be a"):
            connect(metadata=value)
    store = connect(metadata=lambda: ["by"])
    with pytest.raises(InvalidInput, match="metadata must be a mapping"):
        store.append("a-1", NewEvent("A", {}), expected=ANY)
    assert metadata(store) == []
