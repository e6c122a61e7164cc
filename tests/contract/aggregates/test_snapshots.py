"""Snapshots: they save time, and the loaded state is the same as without them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, make_dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from uuid import uuid4

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from indelible import (
    ANY,
    Aggregate,
    Decider,
    EventStore,
    InvalidInput,
    NewEvent,
    Snapshots,
    Upcaster,
)
from indelible.aggregates import LoadedState
from indelible.aggregates.adapter import adapter_of
from indelible.aggregates.fingerprint import with_events
from indelible.aggregates.snapshots import decider_serializer
from indelible.aggregates.state_loader import StateLoader
from indelible.core.operation import Rows, Statement, run
from indelible.errors import StreamErased
from indelible.serialization.codec import Codec
from tests.conftest import Connect
from tests.support.accounts import (
    Account,
    AccountEvent,
    AccountState,
    Deposit,
    Deposited,
    Opened,
    Withdrawn,
    accounts,
    decide,
    evolve,
)

kept = replace(accounts, snapshots=Snapshots(every=10))


class KeptAccount(Account):
    snapshots = Snapshots(every=10)


@pytest.fixture
def store(account_stores: dict[str, EventStore]) -> EventStore:
    """A store of accounts, in one variant: what is tried is in the plans and in the database."""
    return account_stores["sync"]


@pytest.fixture(params=["sync", "async"])
def api(request: pytest.FixtureRequest, account_stores: dict[str, EventStore]) -> EventStore:
    """The same store sync and async."""
    return account_stores[request.param]


def deposit(store: EventStore, stream: str, *amounts: int) -> int:
    return store.append(stream, [Deposited(amount) for amount in amounts], expected=ANY).version


def snapshots(store: EventStore, stream: str) -> list[tuple[Any, ...]]:
    """The name, version, valid time and data of the snapshots of a stream."""
    schema = store._engine._settings.schema
    with store.transaction() as transaction:
        return transaction.connection.execute(
            f"""
            SELECT state, snapshots.version, valid_at, (data #>> '{{}}')::jsonb
            FROM {schema}.snapshots JOIN {schema}.streams ON streams.id = stream_id
            WHERE name = %s ORDER BY state, by_valid_time
            """,
            [stream],
        ).fetchall()


def read_by(store: EventStore, stream: str, subject: object, **moment: Any) -> tuple[int, int]:
    """How many statements a load takes, and how many events it reads."""
    statements, events = 0, 0

    def execute(call: Statement) -> Rows:
        nonlocal statements, events
        rows = store._engine._execute(call)
        statements += 1
        events += sum(row[0] is not None for row in rows) if "load" in call.name else 0
        return rows

    run(
        StateLoader(store._append_settings.codec, stream, adapter_of(subject), **moment).load(),
        execute,
    )
    return statements, events


# Taken and used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [kept, KeptAccount], ids=["decider", "aggregate"])
def test_a_load_begins_at_the_snapshot_in_one_round_trip(
    store: EventStore, api: EventStore, subject: Any, stream: str
) -> None:
    deposit(store, stream, *range(9))
    api.load(stream, subject)
    assert snapshots(store, stream) == []
    deposit(store, stream, 9)

    command = Deposit(100) if subject is kept else lambda account: account.deposit(100)
    handled = api.handle(stream, subject, command)

    ((name, version, valid_at, data),) = snapshots(store, stream)
    assert (name, version, valid_at) == (type(handled.state).__name__, 9, None)
    assert (data["balance"], handled.state.balance) == (45, 145)
    loaded = api.load(stream, subject)
    assert (loaded.version, getattr(loaded, "state", loaded).balance) == (10, 145)
    assert read_by(store, stream, subject) == (1, 1)


def test_writing_takes_snapshots_too(store: EventStore, api: EventStore, stream: str) -> None:
    deposit(store, stream, *range(12))

    with api.writing(KeptAccount, stream) as account:
        account.deposit(1)
        assert snapshots(store, stream) == []

    assert [found[:2] for found in snapshots(store, stream)] == [("KeptAccount", 11)]


def test_a_snapshot_that_is_newer_than_what_is_asked_for_is_passed_over(
    store: EventStore, stream: str
) -> None:
    deposit(store, stream, *[1] * 12)
    store.load(stream, kept)
    deposit(store, stream, *[1] * 3)
    events = list(store.read(stream))

    for version in (3, 10, 11, 13):
        loaded = store.load(stream, kept, as_of=events[version].position)
        assert loaded == LoadedState(AccountState(None, version + 1), version)
    assert read_by(store, stream, kept, as_of=events[13].position) == (2, 2)
    assert store.load(stream, kept, as_of=events[0].recorded_at - timedelta(days=1)).version == -1
    assert [found[1] for found in snapshots(store, stream)] == [11]


def test_an_older_snapshot_never_takes_the_place_of_a_newer_one(
    store: EventStore, stream: str
) -> None:
    deposit(store, stream, *[1] * 12)
    slow = StateLoader(store._append_settings.codec, stream, adapter_of(kept))
    store._engine.run(slow.load())
    deposit(store, stream, *[1] * 12)
    store.load(stream, kept)

    store._engine.run(slow.take_snapshot())

    assert [found[1] for found in snapshots(store, stream)] == [23]


def test_a_conflict_goes_on_from_the_snapshot(store: EventStore, stream: str) -> None:
    deposit(store, stream, *[1] * 12)
    store.load(stream, KeptAccount)
    seen = []

    def command(account: KeptAccount) -> None:
        seen.append(account.balance)
        if len(seen) == 1:
            deposit(store, stream, 5)
        account.withdraw(account.balance)

    assert store.handle(stream, KeptAccount, command).state.balance == 0
    assert seen == [12, 17]


def test_in_a_transaction_a_snapshot_is_there_with_the_rest_or_not_at_all(
    store: EventStore, stream: str
) -> None:
    deposit(store, stream, *[1] * 12)
    with pytest.raises(LookupError), store.transaction() as transaction:
        transaction.handle(stream, kept, Deposit(1))
        raise LookupError
    assert snapshots(store, stream) == []

    with store.transaction() as transaction:
        transaction.handle(stream, kept, Deposit(1))
    assert [found[1] for found in snapshots(store, stream)] == [11]


def test_a_command_that_was_handled_is_known_beside_a_snapshot(
    store: EventStore, stream: str
) -> None:
    command_id = uuid4()
    first = store.handle(stream, kept, Deposit(7), command_id=command_id)
    deposit(store, stream, *[1] * 12)
    store.load(stream, kept)

    again = store.handle(stream, kept, Deposit(7), command_id=command_id)

    assert (again.state, again.version, again.events) == (first.state, 0, first.events)


# Other code ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WithMore:
    owner: str | None = None
    balance: int = 0
    has_more: bool = True


def rate(amount: int) -> int:
    return 0 if amount in {-1, -2, -3} else amount


def evolve_by_rate(account: AccountState, event: AccountEvent) -> AccountState:
    return AccountState(account.owner, account.balance + rate(getattr(event, "amount", 0)))


def spelled(account: AccountState, event: AccountEvent) -> AccountState:
    """It has a constant whose order is another in every process."""
    return account if account.owner in {"Ann", "Bob", "Cleo", "Dan", "Eve"} else AccountState()


def evolve_by_another_rate(account: AccountState, event: AccountEvent) -> AccountState:
    return AccountState(account.owner, account.balance + 2 * getattr(event, "amount", 0))


def test_a_snapshot_that_other_code_made_is_passed_over_and_replaced(
    store: EventStore, stream: str
) -> None:
    every = Snapshots(every=10)
    old = Decider(decide, evolve_by_rate, AccountState, every)
    new = Decider(decide, evolve_by_another_rate, AccountState, every)
    deposit(store, stream, *[1] * 12)
    assert store.load(stream, old).state.balance == 12
    taken = snapshots(store, stream)

    assert store.load(stream, new).state.balance == 24

    assert snapshots(store, stream) != taken
    assert read_by(store, stream, new) == (1, 0)
    assert read_by(store, stream, old) == (1, 12)


def doubled(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "amount": 2 * data["amount"]}


def test_a_snapshot_of_what_other_upcasters_made_is_passed_over(
    url: str, schema: str, stream: str
) -> None:
    reread = [Opened, Deposited, Withdrawn, Upcaster("Deposited", doubled, into="Deposited")]
    with (
        EventStore.connect(url, schema=schema, events=AccountEvent) as plain,
        EventStore.connect(url, schema=schema, events=reread) as other,
    ):
        deposit(plain, stream, *[1] * 12)
        assert plain.load(stream, kept).state.balance == 12
        assert other.load(stream, kept).state.balance == 24
        assert read_by(other, stream, kept) == (1, 0)


def fingerprint(
    evolve: Callable[..., Any] = evolve,
    initial: Callable[[], Any] = AccountState,
    **options: Any,
) -> str:
    return decider_serializer(Snapshots(**options), evolve, initial).fingerprint


def _changed_fingerprints() -> dict[str, tuple[str, str]]:
    def evolve_of(kind: Any, events: Any = AccountEvent) -> Callable[..., Any]:
        def evolve(state: Any, event: Any) -> Any:
            return state

        evolve.__annotations__ = {"state": kind, "event": events, "return": kind}
        return evolve

    base = make_dataclass("Base", [])

    def made(name: str, **fields: Any) -> Any:
        told = [(n, t, field(default=d)) for n, (t, d) in fields.items()]
        return make_dataclass("Made", told, bases=(base,))

    one, two = made("Made", a=(int, 1)), made("Made", a=(int, 2))
    text, more = made("Made", a=(str, "1")), made("Made", a=(int, 1), b=(int, 1))
    number = msgspec.defstruct("Made", [("a", int | None, None)])
    word = msgspec.defstruct("Made", [("a", str | None, None)])
    plain = fingerprint(evolve_of(one), one)

    def with_event(event: Any, *events: Any) -> str:
        evolve = evolve_of(one, *events)
        if not events:
            del evolve.__annotations__["event"]
        serializer = decider_serializer(Snapshots(), evolve, one)
        return with_events(serializer.fingerprint, serializer.event_classes, Codec([event]))

    return {
        "another default": (plain, fingerprint(evolve_of(two), two)),
        "another type": (plain, fingerprint(evolve_of(text), text)),
        "one more field": (plain, fingerprint(evolve_of(more), more)),
        "another type alone": (
            fingerprint(evolve_of(number), number),
            fingerprint(evolve_of(word), word),
        ),
        "another beginning": (plain, fingerprint(evolve_of(one), lambda: one(7))),
        "another revision": (plain, fingerprint(evolve_of(one), one, revision=2)),
        "another evolve": (fingerprint(evolve_by_rate), fingerprint(evolve_by_another_rate)),
        "another event": (with_event(one, one), with_event(two, two)),
        "another event that evolve does not annotate": (with_event(one), with_event(two)),
        "another event of an annotated base": (with_event(one, base), with_event(two, base)),
    }


@pytest.mark.parametrize("what", list(_changed_fingerprints()))
def test_the_fingerprint_differs_with(what: str) -> None:
    before, after = _changed_fingerprints()[what]

    assert before != after
    assert (before, after) == _changed_fingerprints()[what], "and the same for the same"


def test_the_fingerprint_differs_if_a_function_that_evolve_calls_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fingerprint(evolve_by_rate, every=3)
    monkeypatch.setattr(sys.modules[__name__], "rate", lambda amount: amount * 3)
    changed = sys.modules[__name__].rate  # type: ignore[attr-defined]
    changed.__module__ = __name__

    assert before == fingerprint(evolve_by_rate, every=3), "worked out once"
    assert before != fingerprint(evolve_by_rate, every=4)
    assert fingerprint(every=3) == fingerprint(every=4)


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    code = """
from indelible.aggregates.snapshots import aggregate_serializer
from tests.contract.aggregates.test_snapshots import *
aggregate = aggregate_serializer(KeptAccount.snapshots, KeptAccount, Aggregate)
print(fingerprint(spelled), aggregate.fingerprint)
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(told) == 1


# By valid time ------------------------------------------------------------------------------------


def hold(store: EventStore, stream: str, *facts: tuple[int, datetime]) -> None:
    store.append(
        stream,
        [NewEvent("Deposited", Deposited(amount), valid_at=moment) for amount, moment in facts],
        expected=ANY,
    )


def test_a_late_fact_voids_a_snapshot_by_valid_time(store: EventStore, stream: str) -> None:
    now = datetime.now(UTC)
    days = [now + timedelta(days=day) for day in range(20)]
    hold(store, stream, *((1, day) for day in days))
    at = days[14] + timedelta(hours=1)

    assert store.load(stream, kept, valid_at=at).state.balance == 15
    ((_, version, valid_at, data),) = snapshots(store, stream)
    assert (version, valid_at, data["balance"]) == (19, days[14], 15)
    assert read_by(store, stream, kept, valid_at=at) == (1, 0)
    assert store.load(stream, kept, valid_at=days[16]).state.balance == 17
    assert read_by(store, stream, kept, valid_at=days[16]) == (1, 2)
    assert store.load(stream, kept, valid_at=days[13]).state.balance == 14
    assert read_by(store, stream, kept, valid_at=days[13]) == (1, 14)
    assert store.load(stream, kept).state.balance == 20

    hold(store, stream, (100, days[15]), (1000, days[19]))  # later than it: it goes on to be right
    assert store.load(stream, kept, valid_at=days[16]).state.balance == 117
    assert read_by(store, stream, kept, valid_at=days[16]) == (1, 3)

    hold(store, stream, (10_000, days[14]))  # at the very moment of its last fact
    assert store.load(stream, kept, valid_at=at).state.balance == 10_015
    by_valid_time = snapshots(store, stream)[-1]
    assert by_valid_time[1:3] == (22, days[14])
    assert by_valid_time[3]["balance"] == 10_015

    hold(store, stream, (100_000, days[0]))
    assert read_by(store, stream, kept, valid_at=at) == (1, 17)
    assert store.load(stream, kept, valid_at=at).state.balance == 110_015
    late = list(store.read(stream))[-1]
    before = store.load(stream, kept, valid_at=at, as_of=late.position - 1)
    assert before.state.balance == 10_015


# Erased and archived ------------------------------------------------------------------------------


def test_what_is_erased_does_not_live_on_in_a_snapshot(store: EventStore, stream: str) -> None:
    store.append(stream, Opened("Ann"), expected=ANY)
    deposit(store, stream, *[1] * 12)
    slow = StateLoader(store._append_settings.codec, stream, adapter_of(kept))
    store._engine.run(slow.load())
    store.load(stream, kept)
    store.load(stream, KeptAccount, valid_at=datetime.now(UTC) + timedelta(days=1))
    assert len(snapshots(store, stream)) == 2

    store.erase_stream(stream, reason="she asked for it")
    assert snapshots(store, stream) == []

    assert slow.has_snapshot_to_take, "of what was read before"
    store._engine.run(slow.take_snapshot())
    assert snapshots(store, stream) == []
    with pytest.raises(StreamErased):
        store.load(stream, kept)


def test_an_erasure_and_a_snapshot_do_not_pass_by_each_other(
    store: EventStore, stream: str
) -> None:
    """The snapshot is written and not committed when the erasure begins."""
    deposit(store, stream, *[1] * 12)
    loading = StateLoader(store._append_settings.codec, stream, adapter_of(kept))
    store._engine.run(loading.load())
    erasing = Thread(target=lambda: store.erase_stream(stream, reason="she asked for it"))

    with store.transaction() as transaction:
        transaction._engine.run(loading.take_snapshot())
        assert len(snapshots(transaction, stream)) == 1
        erasing.start()
        erasing.join(0.2)
        assert erasing.is_alive(), "the erasure does not wait for the snapshot"
    erasing.join(10)

    assert snapshots(store, stream) == []


def test_a_snapshot_does_not_wait_for_an_erasure(
    store: EventStore, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    deposit(store, stream, *[1] * 12)

    with ThreadPoolExecutor(1) as thread, store.transaction() as transaction:
        transaction.erase_stream(stream, reason="she asked for it")
        with caplog.at_level(logging.WARNING, "indelible"):
            loaded = thread.submit(store.load, stream, kept).result(timeout=10)
    assert loaded.state.balance == 12

    assert "optional work failed" in caplog.text
    assert snapshots(store, stream) == []


def test_an_archived_stream_is_loaded_as_before(store: EventStore, stream: str) -> None:
    version = deposit(store, stream, *[1] * 12)
    store.load(stream, kept)
    store.close_stream(stream, expected=version)
    store.archive_stream(stream)

    assert store.load(stream, accounts).state.balance == 12
    assert (
        store.load(stream, accounts, valid_at=datetime.now(UTC) + timedelta(days=1)).state.balance
        == 12
    )
    assert store.load(stream, kept) == store.load(stream, accounts)
    assert read_by(store, stream, kept) == (1, 0)


# States without a snapshot ------------------------------------------------------------------------


def test_a_snapshot_that_cannot_be_written_fails_no_command(
    connect: Connect,
    connection: psycopg.Connection,
    schema: str,
    stream: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = connect(events=AccountEvent)
    deposit(store, stream, *[1] * 12)
    connection.execute(f"ALTER TABLE {schema}.snapshots ADD CHECK (false)")

    with caplog.at_level(logging.WARNING, "indelible"):
        assert store.handle(stream, kept, Deposit(1)).version == 12
        assert store.load(stream, kept).version == 12
        with store.transaction() as transaction:
            transaction.handle(stream, kept, Deposit(1))
            transaction.append(stream, Deposited(1), expected=13)

    assert caplog.text.count("optional work failed") == 3
    assert store.load(stream, accounts) == LoadedState(AccountState(None, 15), 14)


def test_a_snapshot_that_cannot_be_read_is_passed_over(
    connect: Connect, connection: psycopg.Connection, schema: str, stream: str
) -> None:
    store = connect(events=AccountEvent)
    deposit(store, stream, *[1] * 12)
    store.load(stream, kept)
    connection.execute(f"""UPDATE {schema}.snapshots SET data = '{{"balance": "much"}}'""")

    assert store.load(stream, kept).state.balance == 12


def test_what_cannot_be_kept_is_told_before_anything_is_done(
    store: EventStore, stream: str
) -> None:
    class Unsaid(Account):
        snapshots = Snapshots(every=1)

        def __init__(self) -> None:
            self.friends: list[str] = []

    for subject, what in (
        (Unsaid, "friends of .*Unsaid cannot be stored in a snapshot: annotate"),
        (Decider(decide, lambda s, e: s, AccountState, Snapshots()), "type of the state"),
        (
            Decider(decide, evolve, AccountState, Snapshots(state=object)),
            "cannot be stored as snapshots",
        ),
    ):
        with pytest.raises(InvalidInput, match=what):
            store.load(stream, subject)
    for wrong in (0, True, 1.5, "all"):
        with pytest.raises(InvalidInput, match="every of snapshots"):
            Snapshots(every=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="snapshots must be Snapshots"):
        Decider(decide, evolve, AccountState, 10)  # type: ignore[arg-type]


class Loose(Account):
    """It gets an attribute that its class does not speak of, or a value that has no JSON."""

    snapshots = Snapshots(every=5)
    number: float = 0.0

    def evolve(self, event: AccountEvent) -> None:
        super().evolve(event)
        match event:
            case Deposited(13):
                self.unlucky = True
            case Deposited(7):
                self.number = float("nan")
            case Deposited(5):
                self.number = "five"  # type: ignore[assignment]


@pytest.mark.parametrize("amount", [5, 7, 13])
def test_what_turns_out_not_to_be_kept_is_not_kept(
    store: EventStore, stream: str, caplog: pytest.LogCaptureFixture, amount: int
) -> None:
    deposit(store, stream, 1, 1, 1, 1, amount)

    with caplog.at_level(logging.WARNING, "indelible"):
        loaded = store.load(stream, Loose)

    assert loaded.balance == 4 + amount
    assert snapshots(store, stream) == []
    assert "optional work failed" in caplog.text


def test_what_would_come_back_otherwise_is_not_kept(
    store: EventStore, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = OwnedByMore("Ann", more=1)
    subject = Decider(
        decide, lambda _, event: state, lambda: Owned(""), Snapshots(every=1, state=Owned)
    )
    deposit(store, stream, 1)

    with caplog.at_level(logging.WARNING, "indelible"):
        assert store.load(stream, subject).state is state

    assert snapshots(store, stream) == []
    assert "would not be read back equal" in caplog.text


# Kinds of states ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nobodys:
    pass


@dataclass(frozen=True)
class Owned:
    owner: str
    amounts: tuple[int, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True)
class OwnedByMore(Owned):
    more: int = 0


class OwnedStruct(msgspec.Struct, frozen=True):
    owner: str = ""
    tags: frozenset[str] = frozenset()


class OwnedModel(BaseModel):
    owner: str = ""
    moment: datetime | None = None


class WithParts(Aggregate[AccountEvent]):
    snapshots = Snapshots(every=1)
    owner: str
    parts: dict[str, list[int]]
    kind: Literal["new", "old"] = "new"
    rest: Any = None

    def __init__(self) -> None:
        self.parts = {}

    def evolve(self, event: AccountEvent) -> None:
        if isinstance(event, Opened):
            self.owner = event.owner
        self.parts.setdefault(type(event).__name__, []).append(getattr(event, "amount", 0))


MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (Nobodys | Owned, Nobodys()),
        (Nobodys | Owned, Owned("Ann", (1, 2), MOMENT)),
        (Owned | None, None),
        (OwnedStruct, OwnedStruct("Ann", frozenset({"b", "a"}))),
        (OwnedModel, OwnedModel(owner="Ann", moment=MOMENT)),
        (dict[str, int], {"Ann": 3}),
        (int, 3),
        (list[Owned], [Owned("Ann")]),
    ],
)
def test_a_state_comes_back_as_it_was(
    store: EventStore, stream: str, kind: Any, state: object
) -> None:
    subject = Decider(decide, lambda _, event: state, lambda: state, Snapshots(every=1, state=kind))
    deposit(store, stream, 1, 2)
    store.load(stream, subject)

    assert len(snapshots(store, stream)) == 1
    assert read_by(store, stream, subject) == (1, 0)
    loaded = store.load(stream, subject).state
    assert (type(loaded), loaded) == (type(state), state)


def test_what_is_in_a_state_keeps_its_order_and_its_numbers(store: EventStore, stream: str) -> None:
    """Code may take the first of a dict; jsonb would put the keys in an order of its own."""
    state = {"zebra": 0.0, "bear": 1e20, "ant-eater": 1}
    subject = Decider(
        decide, lambda _, event: state, dict, Snapshots(every=1, state=dict[str, Any])
    )
    deposit(store, stream, 1)
    store.load(stream, subject)

    assert read_by(store, stream, subject) == (1, 0)
    assert repr(store.load(stream, subject).state) == repr(state)


def test_an_aggregate_comes_back_as_it_was(store: EventStore, stream: str) -> None:
    deposit(store, stream, 1, 2)
    store.load(stream, WithParts)
    loaded = store.load(stream, WithParts)
    assert loaded.parts == {"Deposited": [1, 2]}
    assert not hasattr(loaded, "owner")

    store.append(stream, Opened("Ann"), expected=ANY)
    store.load(stream, WithParts)
    assert read_by(store, stream, WithParts) == (1, 0)
    loaded = store.load(stream, WithParts)
    assert (loaded.owner, loaded.parts, loaded.version) == (
        "Ann",
        {"Deposited": [1, 2], "Opened": [0]},
        2,
    )
    assert WithParts().parts == {}


# With and without ---------------------------------------------------------------------------------

AMOUNTS = st.integers(-3, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(AMOUNTS, min_size=1, max_size=6)),
        st.tuples(st.just("hold"), st.lists(st.tuples(AMOUNTS, st.integers(-5, 5)), min_size=1)),
        st.tuples(st.just("handle"), AMOUNTS),
        st.tuples(st.just("conflict"), AMOUNTS),
        st.tuples(st.just("write"), AMOUNTS),
        st.tuples(st.just("change"), st.integers(1, 3)),
        st.tuples(st.just("load"), st.none()),
        st.tuples(st.just("valid"), st.integers(-5, 6)),
        st.tuples(st.just("as of"), st.floats(0, 1)),
        st.tuples(st.just("both"), st.tuples(st.floats(0, 1), st.integers(-5, 6))),
    ),
    max_size=14,
)


def _subjects(every: int, revision: int) -> tuple[Any, type[Account]]:
    """The account as a decider and as an aggregate, by the code of a revision."""
    snapshots = Snapshots(every=every)

    class Revised(Account):
        def evolve(self, event: AccountEvent) -> None:
            if isinstance(event, Withdrawn) and self.balance < event.amount:
                self.balance = -revision  # what counts is the order
            else:
                super().evolve(event)

    Revised.snapshots = snapshots  # type: ignore[misc]

    def evolve_revised(account: AccountState, event: AccountEvent) -> AccountState:
        if isinstance(event, Withdrawn) and account.balance < event.amount:
            return AccountState(account.owner, -revision)
        return evolve(account, event)

    return Decider(decide, evolve_revised, AccountState, snapshots), Revised


def _event(amount: int) -> AccountEvent:
    return Deposited(amount) if amount >= 0 else Withdrawn(-amount)


def test_the_same_is_loaded_with_snapshots_and_without(store: EventStore) -> None:
    now = datetime.now(UTC)
    used = 0

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(1, 4), STEPS)
    def agree(every: int, steps: list[tuple[str, Any]]) -> None:
        nonlocal used
        stream, revision = f"account-{uuid4()}", 1
        moment: dict[str, Any]
        for step, given_ in [*steps, ("load", None), ("valid", 6), ("both", (0.5, 0))]:
            decider, aggregate = _subjects(every, revision)
            events = list(store.read(stream))
            moment = {}
            match step, given_:
                case "append", amounts:
                    store.append(stream, [_event(amount) for amount in amounts], expected=ANY)
                case "hold", facts:
                    told = [
                        NewEvent(
                            type(_event(amount)).__name__,
                            _event(amount),
                            valid_at=now + timedelta(days=day),
                        )
                        for amount, day in facts
                    ]
                    store.append(stream, told, expected=ANY)
                case "handle", amount:
                    always = replace(decider, decide=lambda amount, state: [_event(amount)])
                    store.handle(stream, always, amount)
                case "conflict", amount:
                    attempts: list[int] = []

                    def command(
                        account: Account, amount: int = amount, attempts: list[int] = attempts
                    ) -> None:
                        attempts.append(account.balance)
                        if len(attempts) == 1:
                            deposit(store, stream, 1)
                        account.record(_event(amount))

                    store.handle(stream, aggregate, command)
                    assert len(attempts) == 2
                case "write", amount:
                    with store.writing(aggregate, stream) as account:
                        account.record(_event(amount))
                case "change", changed:
                    revision = changed
                case "valid", day:
                    moment = {"valid_at": now + timedelta(days=day)}
                case "as of", part:
                    moment = (
                        {"as_of": events[int(part * (len(events) - 1))].position} if events else {}
                    )
                case "both", (part, day):
                    moment = {"valid_at": now + timedelta(days=day)}
                    if events:
                        moment["as_of"] = events[int(part * (len(events) - 1))].position

            decider, aggregate = _subjects(every, revision)
            without = store.load(stream, replace(decider, snapshots=None), **moment)
            assert store.load(stream, decider, **moment) == without
            account = store.load(stream, aggregate, **moment)
            assert (account.version, account.balance) == (without.version, without.state.balance)
            used += bool(snapshots(store, stream))

    agree()
    assert used > 10, "the examples are too small"
