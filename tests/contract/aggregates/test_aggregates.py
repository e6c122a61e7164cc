"""Deciders and aggregates: load them, handle commands, and write."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar, assert_type
from uuid import uuid4, uuid5

import pytest

from indelible import (
    ANY,
    NO_STREAM,
    Aggregate,
    AppendCondition,
    AppendConditionFailed,
    Decider,
    DuplicateEvent,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    StreamAppend,
    StreamClosed,
    StreamNotFound,
    TransactionStore,
    Upcaster,
    WrongExpectedVersion,
)
from indelible.aggregates import CommandResult, LoadedState, state_loader
from indelible.errors import EncodingFailed, StreamErased, UnknownEventType, UnregisteredEventClass
from indelible.streams import rows as reading
from tests.conftest import Connect
from tests.support.accounts import (
    Account,
    AccountCommand,
    AccountEvent,
    AccountState,
    Deposit,
    Deposited,
    Open,
    Opened,
    Refused,
    Withdraw,
    Withdrawn,
    accounts,
    decide,
    evolve,
)


@pytest.fixture(params=["sync", "async"])
def store(request: pytest.FixtureRequest, account_stores: dict[str, EventStore]) -> EventStore:
    """The store of accounts, sync and async on every server."""
    return account_stores[request.param]


@pytest.fixture
def rival(account_stores: dict[str, EventStore]) -> EventStore:
    """Another client of the same store, which may be called from within the first."""
    return account_stores["sync"]


def told(store: EventStore, stream: str) -> list[object]:
    return [event.data for event in store.read(stream)]


# Load ---------------------------------------------------------------------------------------------


def test_a_stream_never_written_is_the_initial_state(store: EventStore, stream: str) -> None:
    assert store.load(stream, accounts) == LoadedState(AccountState(), -1)
    account = store.load(stream, Account)
    assert (account.version, account.owner, account.changes) == (-1, None, [])


def test_a_state_is_what_the_events_make_of_it(store: EventStore, stream: str) -> None:
    store.append(stream, [Opened("Ann"), Deposited(5), Withdrawn(2)], expected=NO_STREAM)

    assert store.load(stream, accounts) == LoadedState(AccountState("Ann", 3), 2)
    account = store.load(stream, Account)
    assert (account.version, account.owner, account.balance) == (2, "Ann", 3)
    assert account.changes == []


def test_the_types_of_what_is_loaded_are_known(store: EventStore, stream: str) -> None:
    """What is said here is checked with the types of the tests."""
    assert_type(store.load(stream, accounts), LoadedState[AccountState])
    assert_type(store.load(stream, Account), Account)
    handled = store.handle(stream, accounts, Deposit(1))
    assert_type(handled, CommandResult[AccountState, AccountEvent])
    assert_type(store.handle(stream, Account, lambda a: a.deposit(1)).state, Account)
    assert_type(store.handle(stream, Account, lambda a: a.balance).returned, int | None)
    with store.writing(Account, stream) as account:
        assert_type(account, Account)


def test_a_state_is_loaded_as_it_was_known_and_as_it_holds(store: EventStore, stream: str) -> None:
    now = datetime.now(UTC)
    store.append(stream, Opened("Ann"), expected=NO_STREAM)
    store.append(
        stream,
        [
            NewEvent("Deposited", Deposited(7), valid_at=now + timedelta(days=2)),
            NewEvent("Deposited", Deposited(5), valid_at=now - timedelta(days=2)),
        ],
        expected=0,
    )
    (opened, deposited, late) = store.read(stream)
    store.append(stream, Withdrawn(1), expected=2)

    def at(**moment: Any) -> tuple[int, int]:
        loaded = store.load(stream, accounts, **moment)
        account = store.load(stream, Account, **moment)
        assert (loaded.state.balance, loaded.version) == (account.balance, account.version)
        return loaded.state.balance, loaded.version

    assert at() == (11, 3)
    assert at(as_of=late.position) == (12, 2)
    assert at(as_of=opened.recorded_at) == (0, 0)
    assert at(as_of=opened.recorded_at - timedelta(days=1)) == (0, -1)
    assert at(valid_at=now - timedelta(days=1)) == (5, 3)
    assert at(valid_at=datetime.now(UTC) + timedelta(days=1)) == (4, 3)
    assert at(valid_at=now + timedelta(days=3)) == (11, 3)
    assert at(valid_at=now + timedelta(days=3), as_of=deposited.position) == (7, 1)


@pytest.mark.parametrize("moment", [{}, {"valid_at": datetime(2999, 1, 1, tzinfo=UTC)}])
def test_a_stream_of_several_pages_is_loaded_whole(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, moment: dict[str, Any], stream: str
) -> None:
    monkeypatch.setattr(state_loader, "_PAGE", 7)
    numbers = range(1, 251)
    store.append(stream, [Deposited(n) for n in numbers], expected=NO_STREAM)

    loaded = store.load(stream, accounts, **moment)

    assert loaded == LoadedState(AccountState(None, sum(numbers)), 249)


def test_of_an_erased_stream_there_is_no_state(store: EventStore, stream: str) -> None:
    store.append(stream, [Opened("Ann"), Deposited(5)], expected=NO_STREAM)
    store.erase_stream(stream, reason="she asked for it")

    with pytest.raises(StreamErased, match="from version 0 on"):
        store.load(stream, accounts)
    with pytest.raises(StreamErased):
        store.handle(stream, accounts, Deposit(1))
    with pytest.raises(StreamErased), store.writing(Account, stream):
        pass


def test_an_aggregate_class_registers_the_events_that_it_names(
    connect: Connect, stream: str
) -> None:
    @dataclass
    class Savings(Account):  # a dataclass, as events are
        rate: int = 0

    store = connect(events=[Savings])
    store.append(stream, [Opened("ann"), Deposited(5)], expected=NO_STREAM)
    assert store.load(stream, Savings).balance == 5
    assert [event.data for event in store.read(stream, Savings)] == [Opened("ann"), Deposited(5)]
    with pytest.raises(UnregisteredEventClass):
        store.append(stream, Savings(), expected=ANY)
    with pytest.raises(InvalidInput, match="cannot be an event class"):
        connect(events={"Savings": Savings})


Any_ = TypeVar("Any_")


class Unnamed(Aggregate[Any_], Generic[Any_]):
    pass


@pytest.mark.parametrize(
    "aggregate", [Aggregate, Unnamed, Unnamed[Opened]], ids=["itself", "unnamed", "parameter"]
)
def test_an_aggregate_class_that_names_no_events_registers_none(aggregate: Any) -> None:
    with pytest.raises(InvalidInput, match=r"does not name its event classes|without parameters"):
        EventStore.connect("postgresql://nowhere", events=aggregate)


@pytest.mark.parametrize("given", [None, AccountState, Account(), Aggregate, int, decide])
def test_what_is_neither_decider_nor_aggregate_is_refused(
    store: EventStore, given: Any, stream: str
) -> None:
    with pytest.raises((InvalidInput, NotImplementedError)):
        store.load(stream, given)
        store.append(stream, Opened("Ann"), expected=NO_STREAM)
        store.load(stream, given)  # Aggregate itself declares no events


def test_an_aggregate_is_made_without_arguments(store: EventStore, stream: str) -> None:
    class Named(Aggregate[AccountEvent]):
        def __init__(self, name: str) -> None:
            self.name = name

    with pytest.raises(InvalidInput, match="Named must be callable without arguments"):
        store.load(stream, Named)


# Handle -------------------------------------------------------------------------------------------


def test_a_command_is_decided_on_the_state_and_its_events_are_appended(
    store: EventStore, stream: str
) -> None:
    store.handle(stream, accounts, Open("Ann"), metadata={"by": "ann"})
    store.handle(stream, accounts, Deposit(5))
    handled = store.handle(stream, accounts, Withdraw(2))

    assert handled.state == AccountState("Ann", 3)
    assert handled.version == 2
    assert handled.events == (Withdrawn(2),)
    assert handled.result is not None
    assert (handled.result.version, handled.result.position) == (2, store.head())
    assert told(store, stream) == [Opened("Ann"), Deposited(5), Withdrawn(2)]
    assert [event.metadata for event in store.read(stream)] == [{"by": "ann"}, {}, {}]


def test_a_command_for_an_aggregate_is_a_function(store: EventStore, stream: str) -> None:
    store.handle(stream, Account, lambda account: account.open("Ann"))
    handled = store.handle(stream, Account, lambda account: account.deposit(5))

    account = handled.state
    assert (account.version, account.balance, account.changes) == (1, 5, [])
    assert handled.events == (Deposited(5),)
    assert account.stored == handled.result


def test_what_the_rules_refuse_is_the_callers_and_stores_nothing(
    store: EventStore, stream: str
) -> None:
    with pytest.raises(Refused):
        store.handle(stream, accounts, Withdraw(1))
    with pytest.raises(Refused):
        store.handle(stream, Account, lambda account: account.withdraw(1))
    assert told(store, stream) == []


def test_a_command_without_consequences_appends_nothing(store: EventStore, stream: str) -> None:
    store.handle(stream, accounts, Open("Ann"))

    handled = store.handle(stream, accounts, Open("Ann"))

    assert handled == CommandResult(AccountState("Ann"), 0, (), None)
    assert store.handle(stream, Account, lambda account: account.open("Ann")).events == ()
    assert told(store, stream) == [Opened("Ann")]


@pytest.mark.parametrize("as_aggregate", [False, True], ids=["decider", "aggregate"])
def test_where_somebody_was_faster_it_is_decided_anew_on_what_is_new(
    store: EventStore,
    rival: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    as_aggregate: bool,
    stream: str,
) -> None:
    read: list[int] = []

    def count(codec: Any, rows: Any, *more: Any, **options: Any) -> Any:
        read.append(len(rows))
        return decode_rows(codec, rows, *more, **options)

    decode_rows = reading.decode_rows
    monkeypatch.setattr(state_loader, "decode_rows", count)
    store.append(stream, [Deposited(1)] * 5, expected=NO_STREAM)
    seen = []

    def withdraw(balance: int) -> None:
        seen.append(balance)
        if len(seen) < 3:
            rival.append(stream, Deposited(10 * len(seen)), expected=3 + len(seen))

    if as_aggregate:

        def command(account: Account) -> None:
            withdraw(account.balance)
            account.withdraw(account.balance)

        balance = store.handle(stream, Account, command).state.balance
    else:

        def decide_slowly(command: Withdraw, account: AccountState) -> list[AccountEvent]:
            withdraw(account.balance)
            return decide(Withdraw(account.balance), account)

        slow = Decider(decide_slowly, evolve, AccountState)
        balance = store.handle(stream, slow, Withdraw(0)).state.balance

    assert seen == [5, 15, 35]
    assert balance == 0
    assert [size for size in read if size] == [5, 1, 1]
    assert told(store, stream)[-1] == Withdrawn(35)


@pytest.mark.parametrize("attempts", [1, 3])
def test_after_so_many_attempts_the_last_conflict_is_the_callers(
    store: EventStore, rival: EventStore, attempts: int, stream: str
) -> None:
    def command(account: Account) -> None:
        rival.append(stream, Deposited(1), expected=account.version)
        account.deposit(1)

    with pytest.raises(WrongExpectedVersion) as refusal:
        store.handle(stream, Account, command, attempts=attempts)

    assert refusal.value.actual == attempts - 1
    notes = getattr(refusal.value, "__notes__", [])
    assert [f"Each of {attempts} attempts" in note for note in notes] == [True] * (attempts > 1)
    assert told(store, stream) == [Deposited(1)] * attempts


def test_in_a_transaction_it_decides_anew_too(
    store: EventStore, rival: EventStore, stream: str
) -> None:
    seen = []

    def command(account: Account) -> None:
        seen.append(account.balance)
        if len(seen) == 1:
            rival.append(stream, Deposited(5), expected=NO_STREAM)
        account.deposit(1)

    with store.transaction() as transaction:
        transaction.append(f"{stream}-log", Deposited(0), expected=NO_STREAM)
        transaction.handle(stream, Account, command)
        assert told(store, f"{stream}-log") == []

    assert seen == [0, 5]
    assert told(store, stream) == [Deposited(5), Deposited(1)]
    assert told(store, f"{stream}-log") == [Deposited(0)]


@pytest.mark.parametrize(
    ("subject", "command"),
    [
        (Decider(lambda c, s: Opened("Ann"), evolve, AccountState), Open("Ann")),  # type: ignore[return-value]
        (Decider(lambda c, s: None, evolve, AccountState), Open("Ann")),  # type: ignore[return-value]
        (Account, "deposit"),
    ],
    ids=["one event", "nothing", "no function"],
)
def test_what_decides_otherwise_than_it_should_is_told(
    store: EventStore, subject: Any, command: Any, stream: str
) -> None:
    with pytest.raises(InvalidInput, match=r"list of events|function that is called"):
        store.handle(stream, subject, command)


@pytest.mark.parametrize("name", ["version", "stored", "changes", "record"])
def test_an_aggregate_leaves_the_names_of_all_aggregates_alone(
    rival: EventStore, stream: str, name: str
) -> None:
    own = type("Own", (Account,), {"__annotations__": {name: int}, name: 0})
    below = type("Below", (own,), {})

    with pytest.raises(InvalidInput) as refused:
        rival.load(stream, below)

    assert str(refused.value) == (
        f"Own.{name} cannot be used because Aggregate defines {name}: rename it"
    )


@pytest.mark.parametrize(
    "default", [["Ann"], {"Ann": 1}, {"Ann"}], ids=lambda it: type(it).__name__
)
def test_aggregates_share_no_default_that_can_change(
    rival: EventStore, stream: str, default: object
) -> None:
    kind = type(default).__name__
    members = {"__annotations__": {"friends": kind}, "friends": default}
    shared = type("Shared", (Account,), members)

    with pytest.raises(InvalidInput) as refused, rival.writing(shared, stream):
        pass

    assert str(refused.value) == (
        f"Shared.friends is a {kind} that all aggregates would share: create it in __init__,"
        f" or make the class a dataclass with field(default_factory={kind})"
    )


def test_a_dataclass_may_be_an_aggregate_with_collections(rival: EventStore, stream: str) -> None:
    @dataclass
    class Friendly(Account):
        friends: list[str] = field(default_factory=list)

        def evolve(self, event: AccountEvent) -> None:
            if isinstance(event, Opened):
                self.friends.append(event.owner)

    rival.append(stream, Opened("Ann"), expected=NO_STREAM)

    assert [rival.load(stream, Friendly).friends for _ in range(2)] == [["Ann"], ["Ann"]]


def test_what_cannot_be_taken_in_is_not_stored(store: EventStore, stream: str) -> None:
    def evolve_up_to_5(balance: int, event: AccountEvent) -> int:
        if isinstance(event, Deposited) and event.amount > 5:
            raise ArithmeticError(event.amount)
        return balance + 1

    small: Decider[AccountCommand, int, AccountEvent] = Decider(
        lambda command, _: [Deposited(5), Deposited(command.amount)],  # type: ignore[union-attr]
        evolve_up_to_5,
        int,
    )

    with pytest.raises(ArithmeticError):
        store.handle(stream, small, Deposit(6))

    assert told(store, stream) == []
    assert store.handle(stream, small, Deposit(4)).state == 2


def test_a_state_that_evolve_changes_in_place_is_right_after_a_conflict(
    store: EventStore, rival: EventStore, stream: str
) -> None:
    seen: list[list[object]] = []

    def decide_late(command: Deposit, events: list[object]) -> list[AccountEvent]:
        seen.append(list(events))
        if len(seen) < 3:
            rival.append(stream, Deposited(10 * len(seen)), expected=ANY)
        return [Deposited(command.amount)]

    def take_in(events: list[object], event: AccountEvent) -> list[object]:
        events.append(event)
        return events

    late: Decider[Deposit, list[object], AccountEvent] = Decider(decide_late, take_in, list)

    handled = store.handle(stream, late, Deposit(1))

    assert seen == [[], [Deposited(10)], [Deposited(10), Deposited(20)]]
    assert handled.state == told(store, stream) == [Deposited(10), Deposited(20), Deposited(1)]


@pytest.mark.parametrize(
    "returned",
    [Deposited(1), [Deposited(1)], [Deposited], NewEvent("Deposited", {"amount": 1})],
    ids=["event", "list", "class", "new event"],
)
def test_a_command_that_returns_what_it_should_record_is_refused(
    store: EventStore, returned: object, stream: str
) -> None:
    with pytest.raises(InvalidInput, match="record"):
        store.handle(stream, Account, lambda account: returned)

    def command(account: Account) -> str:
        account.open("Ann")
        return "opened"

    store.handle(stream, Account, command)

    assert told(store, stream) == [Opened("Ann")]


def test_what_decides_must_not_wait(store: EventStore, stream: str) -> None:
    async def decide_later(command: object, state: object) -> list[AccountEvent]:
        return []

    async def command(account: Account) -> None:
        account.deposit(1)

    with pytest.raises(InvalidInput, match="plain function"):
        store.handle(stream, Decider(decide_later, evolve, AccountState), Open("Ann"))
    with pytest.raises(InvalidInput, match="plain function"):
        store.handle(stream, Account, command)
    assert told(store, stream) == []


@pytest.mark.parametrize("attempts", [0, -1, True, 1.5, None])
def test_attempts_are_a_number_from_1_on(store: EventStore, attempts: Any, stream: str) -> None:
    with pytest.raises(InvalidInput, match="attempts"):
        store.handle(stream, accounts, Deposit(1), attempts=attempts)


def test_an_event_of_a_class_that_is_not_registered_is_refused(
    connect: Connect, stream: str
) -> None:
    store = connect(events=Opened)

    with pytest.raises(UnregisteredEventClass):
        store.handle(stream, accounts, Deposit(1))
    with pytest.raises(UnregisteredEventClass):
        store.handle(stream, accounts, Deposit(1), command_id=uuid4())


def test_plain_data_that_was_decided_is_taken_in_as_it_will_be_read(
    connect: Connect, stream: str
) -> None:
    paid = Upcaster(
        "Paid",
        lambda data: [("Deposited", {"amount": data["in"]}), ("Withdrawn", {"amount": 1})],
        into=("Deposited", "Withdrawn"),
    )
    store = connect(events=[Opened, Deposited, Withdrawn, paid])
    plain: Decider[list[NewEvent], AccountState, Any] = Decider(
        lambda command, _: command, evolve, AccountState
    )
    decided = [NewEvent("Deposited", {"amount": 5}), NewEvent("Paid", {"in": 3})]

    handled = store.handle(stream, plain, decided)

    assert handled.state == AccountState(None, 7)
    assert list(handled.events) == told(store, stream) == [Deposited(5), Deposited(3), Withdrawn(1)]
    for wrong, error, says in (
        (NewEvent("Deposited", {"amount": "5"}), EncodingFailed, "read back as Deposited: Expec"),
        (NewEvent("Paid", {}), EncodingFailed, r"the upcaster Paid -> .* failed: KeyError: 'in'"),
        (NewEvent("Lost", {}), UnknownEventType, "Lost"),
        ("Deposited", UnregisteredEventClass, "str"),
    ):
        with pytest.raises(error, match=says):
            store.handle(stream, plain, [wrong])  # type: ignore[list-item]
    assert len(told(store, stream)) == 3


def test_a_decider_may_say_more_of_its_events(store: EventStore, stream: str) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    early = Decider(
        lambda command, state: [NewEvent("Deposited", Deposited(3), valid_at=moment)],
        evolve,
        AccountState,
    )

    handled = store.handle(stream, early, None, command_id=uuid4())

    assert handled.state.balance == 3
    assert handled.events == (Deposited(3),)
    assert next(store.read(stream)).valid_at == moment


# A command with an id -----------------------------------------------------------------------------


@pytest.mark.parametrize("as_aggregate", [False, True], ids=["decider", "aggregate"])
def test_a_command_with_an_id_is_handled_once_wherever_the_stream_stands(
    store: EventStore, as_aggregate: bool, stream: str
) -> None:
    command_id = uuid4()
    store.append(stream, Deposited(9), expected=NO_STREAM)

    def handle() -> CommandResult[Any, Any]:
        if as_aggregate:
            return store.handle(
                stream,
                Account,
                lambda account: [account.withdraw(4), account.withdraw(5)],
                command_id=command_id,
            )
        both = Decider(
            lambda command, state: [*decide(Withdraw(4), state), Withdrawn(5)], evolve, AccountState
        )
        return store.handle(stream, both, None, command_id=command_id)

    first = handle()
    store.append(stream, [Deposited(100), Withdrawn(100)], expected=2)
    again = handle()

    assert (again.state.balance, again.version) == (first.state.balance, first.version) == (0, 2)
    assert again.events == first.events == (Withdrawn(4), Withdrawn(5))
    assert not as_aggregate or again.state.stored == again.result
    assert first.result is not None
    assert again.result is not None
    assert (first.result.idempotent, again.result.idempotent) == (False, True)
    assert (again.result.version, again.result.position) == (2, first.result.position)
    assert again.result.recorded_at == first.result.recorded_at
    assert len(told(store, stream)) == 5


def test_the_same_command_at_once_is_handled_once(
    store: EventStore, rival: EventStore, stream: str
) -> None:
    """A rival handles the same command between the load and the append, and decides otherwise."""
    command_id = uuid4()
    asked = []
    rival_decider = Decider(lambda command, state: [Deposited(2)], evolve, AccountState)

    def decide_slowly(command: Deposit, account: AccountState) -> list[AccountEvent]:
        asked.append(command)
        rival.handle(stream, rival_decider, command, command_id=command_id)
        rival.append(stream, Deposited(10), expected=0)
        return [Deposited(1), Deposited(1)]

    slow = Decider(decide_slowly, evolve, AccountState)

    handled = store.handle(stream, slow, Deposit(1), command_id=command_id)

    assert asked == [Deposit(1)]
    assert handled.events == (Deposited(2),)
    assert handled.state == AccountState(None, 2)
    assert handled.result is not None
    assert handled.result.idempotent
    assert told(store, stream) == [Deposited(2), Deposited(10)]


@pytest.mark.parametrize("as_aggregate", [False, True], ids=["decider", "aggregate"])
@pytest.mark.parametrize("decided", [1, 2, 3, 4])
def test_a_command_is_reported_with_all_that_its_rival_has_recorded(
    store: EventStore, rival: EventStore, stream: str, decided: int, as_aggregate: bool
) -> None:
    """The rival decides on three events; this one on the first of them, on the same or on more."""
    command_id = uuid4()
    rival_decider = Decider(lambda command, state: [Deposited(2)] * 3, evolve, AccountState)

    def meet_twin() -> None:
        rival.handle(stream, rival_decider, None, command_id=command_id)
        rival.append(stream, Deposited(10), expected=2)

    def decide_slowly(command: None, state: AccountState) -> list[AccountEvent]:
        meet_twin()
        return [Deposited(2)] * decided

    def deposit_slowly(account: Account) -> None:
        meet_twin()
        for _ in range(decided):
            account.deposit(2)

    handled: CommandResult[Any, Any]
    if as_aggregate:
        handled = store.handle(stream, Account, deposit_slowly, command_id=command_id)
    else:
        slow = Decider(decide_slowly, evolve, AccountState)
        handled = store.handle(stream, slow, None, command_id=command_id)

    assert handled.events == (Deposited(2),) * 3
    assert handled.state.balance == 6
    assert handled.version == 2
    assert handled.result is not None
    assert (handled.result.version, handled.result.idempotent) == (2, True)
    assert told(store, stream) == [*[Deposited(2)] * 3, Deposited(10)]


def test_the_id_of_a_command_is_known_per_stream(store: EventStore, stream: str) -> None:
    command_id = uuid4()

    for name in (stream, f"{stream}-2"):
        handled = store.handle(name, accounts, Deposit(1), command_id=command_id)
        assert handled.result is not None
        assert not handled.result.idempotent
        assert told(store, name) == [Deposited(1)]


def test_a_command_whose_events_were_archived_is_known_without_a_decision(
    store: EventStore, stream: str
) -> None:
    decided: list[AccountCommand] = []

    def count(command: AccountCommand, state: AccountState) -> list[AccountEvent]:
        decided.append(command)
        return decide(command, state)

    counting, command_id = replace(accounts, decide=count), uuid4()
    version = store.handle(stream, counting, Deposit(1), command_id=command_id).version
    store.close_stream(stream, expected=version)
    store.archive_stream(stream)
    store.reopen_stream(stream)

    assert store.handle(stream, counting, Deposit(1), command_id=command_id).version == version
    assert len(decided) == 1


def test_a_command_that_recorded_nothing_is_decided_again(store: EventStore, stream: str) -> None:
    command_id = uuid4()
    with pytest.raises(Refused):
        store.handle(stream, accounts, Withdraw(1), command_id=command_id)
    store.handle(stream, accounts, Deposit(1))

    assert store.handle(stream, accounts, Withdraw(1), command_id=command_id).events


def test_an_id_that_is_taken_by_others_is_a_duplicate(store: EventStore, stream: str) -> None:
    command_id = uuid4()
    taken = uuid5(command_id, f"0 {stream}")
    store.append(f"{stream}-2", NewEvent("Deposited", Deposited(1), id=taken), expected=NO_STREAM)

    with pytest.raises(DuplicateEvent):
        store.handle(stream, accounts, Deposit(1), command_id=command_id)


def test_the_id_of_a_command_is_a_uuid(store: EventStore, stream: str) -> None:
    with pytest.raises(InvalidInput, match="command_id must be a UUID"):
        store.handle(stream, accounts, Deposit(1), command_id="7")  # type: ignore[call-overload]


# Writing ------------------------------------------------------------------------------------------


def test_what_an_aggregate_recorded_is_appended_when_the_block_ends(
    store: EventStore, stream: str
) -> None:
    with store.writing(Account, stream, metadata={"by": "ann"}) as account:
        account.open("Ann")
        account.deposit(5)
        assert (account.balance, account.version) == (5, -1)
        assert account.changes == [Opened("Ann"), Deposited(5)]
        assert told(store, stream) == []

    assert told(store, stream) == [Opened("Ann"), Deposited(5)]
    assert (account.version, account.changes) == (1, [])
    assert account.stored is not None
    assert account.stored.position == store.head()
    assert [event.metadata for event in store.read(stream)] == [{"by": "ann"}] * 2


def test_an_aggregate_that_somebody_else_changed_is_not_written(
    store: EventStore, rival: EventStore, stream: str
) -> None:
    with pytest.raises(WrongExpectedVersion) as refusal:
        with store.writing(Account, stream) as account:
            rival.append(stream, Deposited(5), expected=NO_STREAM)
            account.deposit(1)

    assert refusal.value.actual == 0
    assert account.changes == [Deposited(1)]
    assert told(store, stream) == [Deposited(5)]


def test_the_version_is_checked_where_nothing_was_recorded(
    store: EventStore, rival: EventStore, stream: str
) -> None:
    with store.writing(Account, stream) as account:
        pass
    assert (account.version, account.stored) == (-1, None)
    assert store.stream(stream) is None

    with pytest.raises(WrongExpectedVersion):
        with store.writing(Account, stream) as account:
            rival.append(stream, Deposited(5), expected=NO_STREAM)


def test_an_error_in_the_block_appends_nothing(store: EventStore, stream: str) -> None:
    with pytest.raises(Refused):
        with store.writing(Account, stream) as account:
            account.deposit(1)
            account.withdraw(2)

    assert told(store, stream) == []


def test_writing_takes_aggregates_only(store: EventStore, stream: str) -> None:
    with pytest.raises(InvalidInput, match="subclass of Aggregate"):
        with store.writing(accounts, stream):  # type: ignore[type-var]
            pass


def test_aggregates_are_written_in_the_transaction_of_other_appends(
    store: EventStore, stream: str
) -> None:
    def transfer(transaction: TransactionStore) -> None:
        with transaction.writing(Account, stream) as giver:
            giver.withdraw(3)
        with transaction.writing(Account, f"{stream}-2") as taker:
            taker.deposit(3)
        transaction.append(f"{stream}-log", Deposited(3), expected=NO_STREAM)
        with transaction.writing(Account, stream) as giver:
            giver.withdraw(2)

    store.append(stream, Deposited(4), expected=NO_STREAM)
    with pytest.raises(Refused), store.transaction() as transaction:
        transfer(transaction)
    assert told(store, stream) == [Deposited(4)]

    store.append(stream, Deposited(1), expected=0)
    with store.transaction() as transaction:
        transfer(transaction)
    assert store.load(stream, accounts) == LoadedState(AccountState(None, 0), 3)
    assert told(store, f"{stream}-2") == told(store, f"{stream}-log") == [Deposited(3)]


def test_what_was_recorded_may_hold_at_another_time(store: EventStore, stream: str) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)

    with store.writing(Account, stream) as account:
        account.record(Deposited(3), valid_at=moment)
        with pytest.raises(InvalidInput, match="valid_at"):
            account.record(Deposited(4), valid_at=datetime(2026, 1, 2))
        account.record(Deposited(5))

    (early, other) = store.read(stream)
    assert early.valid_at == moment
    assert other.valid_at == other.recorded_at
    assert account.balance == 8


def test_a_closed_stream_is_written_no_more(store: EventStore, stream: str) -> None:
    store.append(stream, Deposited(4), expected=NO_STREAM)
    store.close_stream(stream, expected=0)

    with pytest.raises(StreamClosed), store.writing(Account, stream) as account:
        account.deposit(1)
    with pytest.raises(StreamClosed):
        store.handle(stream, accounts, Deposit(1))


def test_the_channel_is_said_by_the_first_append(store: EventStore, stream: str) -> None:
    store.handle(stream, accounts, Deposit(1), channel="bank")
    with store.writing(Account, f"{stream}-2", channel="bank") as account:
        account.deposit(1)

    for name in (stream, f"{stream}-2"):
        assert [event.channel for event in store.read(name)] == ["bank"]


# Without a store ----------------------------------------------------------------------------------


def test_an_aggregate_needs_no_store() -> None:
    account = Account()
    account.open("Ann")
    account.deposit(5)
    with pytest.raises(Refused):
        account.withdraw(6)

    assert account.changes == [Opened("Ann"), Deposited(5)]
    assert Account().changes == []


def test_what_cannot_be_taken_in_was_not_recorded() -> None:
    class Picky(Aggregate[AccountEvent]):
        def evolve(self, event: AccountEvent) -> None:
            raise LookupError

    picky = Picky()
    with pytest.raises(LookupError):
        picky.record(Deposited(1))
    assert picky.changes == []


@pytest.mark.parametrize("name", ["decide", "evolve", "initial_state"])
def test_a_decider_is_made_of_functions(name: str) -> None:
    given: dict[str, Any] = {"decide": decide, "evolve": evolve, "initial_state": AccountState}
    given[name] = 3
    with pytest.raises(InvalidInput, match=f"{name} of a decider"):
        Decider(**given)


def test_a_batch_of_checks_and_appends_takes_what_was_loaded(
    store: EventStore, stream: str
) -> None:
    """For those who append by themselves: the version that was loaded is what is expected."""
    loaded = store.load(stream, accounts)
    events = accounts.decide(Deposit(5), loaded.state)

    store.append_many([StreamAppend(stream, events, loaded.version)])

    assert store.load(stream, Account).balance == 5


def test_the_ids_of_a_commands_events_never_change(store: EventStore, stream: str) -> None:
    """They are in stores: another way to make them would handle old commands again."""
    command_id = uuid4()
    twice = Decider(lambda command, state: [Deposited(1), Deposited(2)], evolve, AccountState)

    store.handle(stream, twice, None, command_id=command_id)

    assert [event.id for event in store.read(stream)] == [
        uuid5(command_id, f"{place} {stream}") for place in (0, 1)
    ]


# Other reads --------------------------------------------------------------------------------------


def test_a_load_that_must_find_the_stream_says_so_where_it_was_never_written(
    store: EventStore, stream: str
) -> None:
    for kind in (accounts, Account):
        with pytest.raises(StreamNotFound):
            store.load(stream, kind, must_exist=True)

    store.append(stream, Opened("Ann"), expected=NO_STREAM)

    assert store.load(stream, accounts, must_exist=True).version == 0
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert store.load(stream, accounts, must_exist=True, as_of=yesterday).version == -1


def test_what_the_function_returned_comes_with_the_result(store: EventStore, stream: str) -> None:
    def deposit(account: Account) -> int:
        account.deposit(5)
        return account.balance

    command_id = uuid4()
    assert store.handle(stream, Account, deposit, command_id=command_id).returned == 5
    assert store.handle(stream, Account, deposit, command_id=command_id).returned is None
    assert store.handle(stream, Account, lambda account: account.balance).returned == 5
    assert store.handle(stream, accounts, Deposit(1)).returned is None


def test_a_command_is_refused_where_its_condition_does_not_hold(
    store: EventStore, stream: str
) -> None:
    tag = f"holder:{stream}"
    none_yet = AppendCondition(Query(tags=tag), after=0)
    store.handle(stream, accounts, Open("Ann"), condition=none_yet)
    with store.writing(Account, stream, condition=none_yet) as account:
        account.deposit(1)

    store.append(f"{stream}-other", NewEvent("Deposited", {"amount": 1}, tags=[tag]), expected=ANY)

    for kind, command in ((accounts, Deposit(1)), (Account, lambda account: account.deposit(1))):
        with pytest.raises(AppendConditionFailed):
            store.handle(stream, kind, command, condition=none_yet)
    with (
        pytest.raises(AppendConditionFailed),
        store.writing(Account, stream, condition=none_yet) as account,
    ):
        account.deposit(1)
    with (
        pytest.raises(AppendConditionFailed),
        store.writing(Account, stream, condition=none_yet),
    ):
        pass  # nothing recorded: the version that the block has seen must still be current
    assert told(store, stream) == [Opened("Ann"), Deposited(1)]
