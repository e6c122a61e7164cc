"""Typed events: the database returns exactly the values that were appended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID, uuid4

import attrs
import msgspec
import psycopg
import pydantic
import pytest

from indelible import ANY, NO_STREAM, EventStore, InvalidInput, NewEvent
from indelible.errors import (
    DecodingFailed,
    EncodingFailed,
    UnknownEventType,
    UnregisteredEventClass,
)
from tests.conftest import Connect


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Priority(IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Weight:
    grams: int


class Place(msgspec.Struct, frozen=True):
    latitude: float
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    name: str
    price: Decimal
    weight: Weight
    variants: frozenset[Colour] = frozenset()


@dataclass(frozen=True)
class OrderPlaced:
    """As a dataclass, with everything in it."""

    order_id: UUID
    at: datetime
    on: date
    clock: time
    within: timedelta
    total: Decimal
    variant: Colour
    priority: Priority
    items: list[Item]
    where: Place
    picture: bytes
    tags: set[str]
    pair: tuple[int, str]
    many: tuple[UUID, ...]
    prices: dict[str, Decimal]
    by_number: dict[int, list[dict[str, Item]]]
    by_id: dict[UUID, date]
    note: str | None = None
    ratio: float = 0.5
    count: int = 0
    anything: Any = None
    nested: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OrderTipped:
    amount: Decimal


class OrderCanceled(msgspec.Struct, frozen=True):
    reason: str
    item: Item | None = None


class OrderRenamed(msgspec.Struct, rename="camel", tag="renamed"):
    new_name: str
    left_out: int | msgspec.UnsetType = msgspec.UNSET
    old_name: str | None = None


@attrs.frozen
class OrderPaid:
    amount: Decimal
    item: Item
    at: datetime


@attrs.define
class OrderWeighed:
    weights: list[Weight] = attrs.Factory(list)


@dataclass(frozen=True)
class Part:
    name: str
    variants: frozenset[Colour] = frozenset()


class Address(pydantic.BaseModel):
    street: str
    zip_code: str = pydantic.Field(alias="zipCode")


class OrderShipped(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    address: Address
    at: datetime
    total: Decimal
    items: list[Part]
    code: str = pydantic.Field(alias="shippingCode")
    variants: set[Colour] = set()
    within: timedelta = timedelta(0)

    @pydantic.field_validator("code")
    @classmethod
    def _in_capitals(cls, code: str) -> str:
        if code != code.upper():
            raise ValueError("write it in capitals")
        return code


@dataclass(frozen=True)
class OrderReturned:
    """A dataclass with a pydantic model in it."""

    address: Address
    others: list[Address] = field(default_factory=list)


@dataclass(frozen=True)
class WithItsOwnName:
    event_type: ClassVar[str] = "order.archived.v2"

    why: str


type_of_order = (
    OrderPlaced
    | OrderTipped
    | OrderCanceled
    | OrderRenamed
    | OrderPaid
    | OrderWeighed
    | OrderShipped
    | OrderReturned
    | WithItsOwnName
)

ITEM = Item("Süppchen 🍲", Decimal("7.90"), Weight(450), frozenset({Colour.RED, Colour.BLUE}))
PLUS_FIVE_AND_A_HALF = timezone(timedelta(hours=5, minutes=30))
PLACED = OrderPlaced(
    order_id=uuid4(),
    at=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=PLUS_FIVE_AND_A_HALF),
    on=date(1582, 10, 15),
    clock=time(23, 59, 59, 999_999),
    within=timedelta(days=-1, seconds=3, microseconds=7),
    total=Decimal("1234567890.12345678901234567890"),
    variant=Colour.BLUE,
    priority=Priority.HIGH,
    items=[ITEM, ITEM],
    where=Place(52.520008),
    picture=bytes(range(256)),
    tags={"a", "", "ä"},
    pair=(1, "one"),
    many=(uuid4(), uuid4()),
    prices={"": Decimal("0.00"), 'a"b\\c': Decimal("-1E+5"), "key.with.dots": Decimal("1.10")},
    by_number={0: [], -7: [{"x": ITEM}], 2**60: [{}]},
    by_id={uuid4(): date.max},
    nested={"a": [{"b": {"": [1, 2.5, None, True, "\u2028"]}}], "$ref": {}, "id": 1, "é": []},
)

EVENTS: list[Any] = [
    PLACED,
    OrderTipped(Decimal("0.10")),
    OrderCanceled("no driver"),
    OrderCanceled("", ITEM),
    OrderRenamed("new"),
    OrderRenamed("new", 3, "old"),
    OrderPaid(Decimal("12.00"), ITEM, datetime(1, 1, 1, tzinfo=UTC)),
    OrderWeighed([Weight(1), Weight(2)]),
    OrderWeighed(),
    OrderShipped(
        address=Address(street="Weg 1", zipCode="00001"),
        at=datetime(2024, 3, 31, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=-3))),
        total=Decimal("1.0"),
        items=[Part("p", frozenset({Colour.BLUE}))],
        shippingCode="ABC",
        variants={Colour.RED},
        within=timedelta(microseconds=1),
    ),
    OrderReturned(Address(street="Weg 2", zipCode="2"), [Address(street="", zipCode="")]),
    WithItsOwnName("because"),
]


def test_every_kind_of_class_comes_back_as_it_went_in(connect: Connect) -> None:
    store = connect(events=type_of_order)

    for number, event in enumerate(EVENTS):
        store.append("order-1", event, expected=number - 1)

    stored = list(store.read("order-1"))
    assert [event.data for event in stored] == EVENTS
    assert [type(event.data) for event in stored] == [type(event) for event in EVENTS]
    assert [event.data for event in store.read_all()] == EVENTS
    assert [event.type for event in stored][-1] == "order.archived.v2"
    assert stored[0].type == "OrderPlaced"


def test_what_comes_back_has_the_types_that_were_declared(connect: Connect) -> None:
    store = connect(events=[OrderPlaced])
    store.append("order-1", PLACED, expected=NO_STREAM)

    back = next(store.read("order-1")).data

    assert back.at.utcoffset() == PLACED.at.utcoffset()
    assert back.total.as_tuple() == PLACED.total.as_tuple()
    assert {key: str(price) for key, price in back.prices.items()} == {
        key: str(price) for key, price in PLACED.prices.items()
    }
    assert type(back.priority) is Priority
    assert type(back.items[0].variants) is frozenset
    assert type(back.pair) is tuple
    assert type(back.picture) is bytes
    assert list(back.by_number) == [0, -7, 2**60] or set(back.by_number) == {0, -7, 2**60}
    assert all(type(key) is int for key in back.by_number)


@dataclass(frozen=True)
class Measured:
    value: float


@pytest.mark.parametrize(
    "value",
    [0.0, 1.0, -1.5, 0.1, 1e16, 1e23, 1e300, -1e300, 5e-324, 1.7976931348623157e308, 2**53 + 2.0],
    ids=repr,
)
def test_floats_come_back_exactly(sync_store: EventStore, url: str, schema: str, value: float):
    with EventStore.connect(url, schema=schema, events=Measured) as store:
        store.append("a-1", Measured(value), expected=NO_STREAM)

        back = next(store.read("a-1")).data.value

    assert type(back) is float
    assert back == value


def test_minus_zero_is_refused(connect: Connect) -> None:
    """The one float whose sign jsonb does not keep."""
    store = connect(events=Measured)

    for event in (Measured(-0.0), NewEvent("Measured", {"value": -0.0})):
        with pytest.raises(EncodingFailed, match=r"data\.value is -0\.0"):
            store.append("a-1", event, expected=NO_STREAM)
    with pytest.raises(InvalidInput, match=r"data\.value is -0\.0"):
        store.import_events(
            ['{"stream":"a-1","type":"Measured","data":{"value":-0.0}}'], source="test"
        )

    assert store.stream("a-1") is None


@dataclass(frozen=True)
class Counted:
    value: int


def test_integers_of_any_size_come_back_exactly(connect: Connect) -> None:
    store = connect(events=Counted)
    values = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, -(2**64), 10**30, 10**300 + 7]

    for value in values:
        store.append("a-1", Counted(value), expected=ANY)

    assert [event.data.value for event in store.read("a-1")] == values


def test_plain_data_comes_back_equal(connect: Connect) -> None:
    store = connect()
    values: list[Any] = [
        1e16,
        0.1,
        5e-324,
        2**64,
        [1e22, {"x": -1e15}],
        {"a.b": {"": [None]}, "0": 0},
    ]

    for value in values:
        store.append("a-1", NewEvent("Happened", value), expected=ANY)

    assert [event.data for event in store.read("a-1")] == values


def test_an_instance_in_a_new_event_keeps_what_the_new_event_says(connect: Connect) -> None:
    store = connect(events=[OrderTipped])
    event = NewEvent("OrderTipped", OrderTipped(Decimal(1)), metadata={"by": "ann"}, tags=["a:1"])

    store.append("order-1", event, expected=NO_STREAM)

    (stored,) = store.read("order-1")
    assert (stored.id, stored.data, stored.metadata, stored.tags) == (
        event.id,
        OrderTipped(Decimal(1)),
        {"by": "ann"},
        ("a:1",),
    )


def test_plain_data_of_a_registered_type_comes_back_as_its_class(connect: Connect) -> None:
    store = connect(events=[OrderTipped])

    store.append("order-1", NewEvent("OrderTipped", {"amount": "1.50"}), expected=NO_STREAM)

    assert next(store.read("order-1")).data == OrderTipped(Decimal("1.50"))


def test_an_instance_under_the_name_of_another_class_is_refused(connect: Connect) -> None:
    store = connect(events=[OrderTipped, WithItsOwnName])

    for wrong in ("OrderTipped", "WithItsOwnName"):
        with pytest.raises(InvalidInput, match=r"order\.archived\.v2"):
            store.append("order-1", NewEvent(wrong, WithItsOwnName("x")), expected=NO_STREAM)

    assert store.stream("order-1") is None


def test_a_mapping_gives_types_their_names(connect: Connect) -> None:
    """An event class may be renamed or moved: its events keep the type they were stored under."""
    old = connect(events={"tip.v1": OrderTipped})
    old.append("order-1", OrderTipped(Decimal(1)), expected=NO_STREAM)

    new = connect(events={"tip.v2": OrderCanceled, "tip.v1": OrderTipped})

    assert next(new.read("order-1")).data == OrderTipped(Decimal(1))
    assert next(old.read("order-1")).type == "tip.v1"


def test_two_types_may_stand_for_one_class(connect: Connect) -> None:
    store = connect(events={"tip": OrderTipped, "OrderTipped": OrderTipped})
    tip = OrderTipped(Decimal(1))

    store.append("order-1", [tip, NewEvent("OrderTipped", tip)], expected=NO_STREAM)

    assert [(event.type, event.data) for event in store.read("order-1")] == [
        ("tip", tip),
        ("OrderTipped", tip),
    ]


def test_a_class_that_is_not_registered_is_refused(connect: Connect) -> None:
    store = connect(events=[OrderTipped])

    for wrong in (OrderCanceled("x"), {"a": 1}, "text", 7, None, OrderTipped):
        with pytest.raises(UnregisteredEventClass) as error:
            store.append("order-1", wrong, expected=NO_STREAM)
        assert type(wrong).__qualname__ in str(error.value)
        advice = "events=" if isinstance(wrong, OrderCanceled) else "pass an instance"
        assert advice in str(error.value)

    assert store.stream("order-1") is None


def test_an_instance_of_a_subclass_is_not_taken_for_its_parent(connect: Connect) -> None:
    @dataclass(frozen=True)
    class MoreTipped(OrderTipped):
        more: int = 0

    with pytest.raises(UnregisteredEventClass, match="MoreTipped"):
        connect(events=[OrderTipped]).append("a", MoreTipped(Decimal(1)), expected=ANY)


def test_a_stored_type_without_class_is_named_with_what_to_do(connect: Connect) -> None:
    connect().append("order-1", NewEvent("Forgotten", {"a": 1}), expected=NO_STREAM)
    store = connect(events=[OrderTipped])

    for reading in (lambda: store.read("order-1"), lambda: store.read_all()):
        with pytest.raises(UnknownEventType) as error:
            list(reading())
        assert error.value.event_type == "Forgotten"
        place = "event 0 of stream 'order-1', at position 1: "
        for fact in (place, "'Forgotten'", "events=", 'unknown="keep"'):
            assert fact in str(error.value)


def test_a_stored_type_without_class_is_plain_data_where_asked_for(connect: Connect) -> None:
    connect().append(
        "order-1",
        [NewEvent("Forgotten", {"a": 1}), NewEvent("OrderTipped", {"amount": "1"})],
        expected=NO_STREAM,
    )

    store = connect(events=[OrderTipped], unknown="keep")

    assert [e.data for e in store.read("order-1")] == [{"a": 1}, OrderTipped(Decimal(1))]


def test_without_any_class_every_event_is_plain_data(connect: Connect) -> None:
    connect(events=[OrderTipped]).append("a-1", OrderTipped(Decimal("1.5")), expected=NO_STREAM)

    assert next(connect().read("a-1")).data == {"amount": "1.5"}


def test_stored_data_that_does_not_fit_its_class_says_what_and_where(connect: Connect) -> None:
    connect().append(
        "a-1",
        [NewEvent("OrderTipped", {"amount": value}) for value in ("1", [1])],
        expected=NO_STREAM,
    )
    store = connect(events=[OrderTipped])

    for reading in (lambda: store.read("a-1"), lambda: store.read_all()):
        with pytest.raises(DecodingFailed) as error:
            list(reading())
        assert (error.value.event_type, error.value.event_class) == ("OrderTipped", OrderTipped)
        assert str(error.value).startswith("event 1 of stream 'a-1', at position 2: ")
        assert "amount" in str(error.value)


def test_a_validator_of_pydantic_holds_when_reading(connect: Connect) -> None:
    data = {
        "address": {"street": "", "zipCode": ""},
        "at": "2024-01-01T00:00:00Z",
        "total": "1",
        "items": [],
        "shippingCode": "small",
    }
    connect().append("a-1", NewEvent("OrderShipped", data), expected=NO_STREAM)

    with pytest.raises(DecodingFailed, match="write it in capitals"):
        list(connect(events=[OrderShipped]).read("a-1"))


def test_pydantic_is_stored_under_its_aliases(connect: Connect) -> None:
    connect(events=[OrderShipped, OrderReturned]).append(
        "a-1", OrderReturned(Address(street="Weg", zipCode="1")), expected=NO_STREAM
    )

    assert next(connect().read("a-1")).data["address"] == {"street": "Weg", "zipCode": "1"}


def test_a_new_field_with_a_default_reads_old_events(connect: Connect) -> None:
    connect().append("a-1", NewEvent("Item", {"name": "x", "gone": 1}), expected=NO_STREAM)

    @dataclass(frozen=True)
    class Grown:
        name: str
        more: int = 7

    assert next(connect(events={"Item": Grown}).read("a-1")).data == Grown("x", 7)


# Metadata -------------------------------------------------------------------------------------


def test_metadata_is_plain_json(store: EventStore) -> None:
    id_ = uuid4()
    metadata = {"id": id_, "at": datetime(2024, 1, 1, tzinfo=UTC), "n": {"a": [Decimal("1.0")]}}

    store.append("a-1", NewEvent("Happened", {}, metadata=metadata), expected=NO_STREAM)

    assert next(store.read("a-1")).metadata == {
        "id": str(id_),
        "at": "2024-01-01T00:00:00Z",
        "n": {"a": ["1.0"]},
    }


# Values that cannot be stored -----------------------------------------------------------------


@dataclass
class Loose:
    a: Any = None
    b: Any = None


class LooseStruct(msgspec.Struct):
    a: Any = None


@attrs.define
class LooseAttrs:
    a: Any = None


class LooseModel(pydantic.BaseModel):
    a: Any = None


class OpenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class NotFinite(Enum):
    NAN = math.nan


NAIVE = datetime(2024, 1, 1)
HALF = "a\ud800"
UNKEPT: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    NAIVE,
    NAIVE.replace(microsecond=1),
    "a\x00b",
    HALF,
    object(),
    int,
    lambda: None,
    [].append,
]


def test_what_cannot_be_kept_is_refused_with_the_path_of_its_field(connect: Connect) -> None:
    store = connect(events=[Loose, LooseStruct, LooseAttrs, LooseModel])

    for value in UNKEPT:
        places: list[tuple[Any, str]] = [
            (Loose(a=value), "data.a"),
            (Loose(a=None, b=[1, {"x": value}]), "data.b[1].x"),
            (Loose(a=(1, 2, value)), "data.a[2]"),
            (LooseStruct(a={"deep": [[value]]}), "data.a.deep[0][0]"),
            (LooseAttrs(a=Loose(b=value)), "data.a.b"),
            (LooseModel(a=[value]), "data.a[0]"),
            (Loose(a=LooseModel(a=LooseStruct(a=value))), "data.a.a.a"),
            (NewEvent("Plain", value), "data"),
            (NewEvent("Plain", {"list": [0, {"x": value}]}), "data.list[1].x"),
            (NewEvent("Plain", {}, metadata={"x": [value]}), "metadata.x[0]"),
        ]
        for event, path in places:
            with pytest.raises(EncodingFailed) as error:
                store.append("a-1", event, expected=ANY)
            assert error.value.field == path, (value, event)
            assert f" {path} " in str(error.value)

    assert store.stream("a-1") is None


def test_a_key_that_cannot_be_kept_is_refused_with_its_path(connect: Connect) -> None:
    store = connect()

    for key in ("a\x00", HALF, (1, 2), NAIVE, object()):
        with pytest.raises(EncodingFailed) as error:
            store.append("a-1", NewEvent("Plain", {"x": [{key: 1}]}), expected=ANY)
        assert error.value.field.startswith("data.x[0]"), (key, error.value)

    assert store.stream("a-1") is None


def test_keys_that_become_the_same_in_json_are_refused(store: EventStore) -> None:
    """JSON has text keys only: one of the two values would be lost without a word."""
    with pytest.raises(EncodingFailed):
        store.append("a-1", NewEvent("Plain", {"x": {1: "one", "1": "uno"}}), expected=ANY)


def test_what_hides_in_an_enum_or_an_extra_field_is_refused_too(connect: Connect) -> None:
    store = connect(events=[Loose, OpenModel])

    for event in (
        Loose(a=NotFinite.NAN),
        OpenModel(extra=math.nan),
        OpenModel(extra="a\x00"),
        OpenModel(extra=NAIVE),
        Loose(a=[1, OpenModel(extra=[math.inf])]),
    ):
        with pytest.raises(EncodingFailed):
            store.append("a-1", event, expected=ANY)

    assert store.stream("a-1") is None


def test_data_that_contains_itself_is_refused(connect: Connect) -> None:
    store = connect(events=[Loose])
    ring: list[Any] = []
    ring.append({"ring": ring})
    mirror = Loose()
    mirror.a = mirror

    for data in (NewEvent("Plain", ring), mirror):
        with pytest.raises(EncodingFailed):
            store.append("a-1", data, expected=ANY)


def test_data_nested_too_deeply_is_refused(store: EventStore) -> None:
    """And not stored where it could not be read again."""
    for depth in (5_000, 100_000):
        deep: list[Any] = []
        for _ in range(depth):
            deep = [deep]
        with pytest.raises(InvalidInput):
            store.append("a-1", NewEvent("Plain", deep), expected=ANY)

    assert store.stream("a-1") is None


def test_data_nested_deeply_is_read_again(store: EventStore) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]

    store.append("a-1", NewEvent("Plain", deep), expected=ANY)

    assert next(store.read("a-1")).data == deep


def test_text_that_only_looks_odd_is_kept(store: EventStore) -> None:
    data = ["\\u0000", "null", "2024-01-01T00:00:00", "NaN", "\\", '"', "\x01\x7f\x85", "\ufffe"]

    store.append("a-1", NewEvent("Plain", data, metadata={"m": data}), expected=ANY)

    assert next(store.read("a-1")).data == data


@attrs.define
class Private:
    _secret: str
    shown: int = 0


def test_a_private_field_of_attrs_is_not_left_out(connect: Connect) -> None:
    with pytest.raises(InvalidInput, match="_secret"):
        connect(events=[Private])


def test_every_event_has_the_bytes_that_were_stored(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    """JSON that others can read: names, not numbers or pickles."""
    connect(events=type_of_order).append("order-1", OrderCanceled("x", ITEM), expected=NO_STREAM)

    row = connection.execute(f"SELECT data FROM {schema}.events").fetchone()

    assert row is not None
    (data,) = row
    assert data["reason"] == "x"
    assert data["item"]["price"] == "7.90"
    assert data["item"]["weight"] == {"grams": 450}
    assert sorted(data["item"]["variants"]) == ["blue", "red"]


# Values of a class without a JSON form ------------------------------------------------------------


class Money:
    """A class of another library, say."""

    def __init__(self, text: str) -> None:
        self.amount, self.currency = text.split()

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]


StoredMoney = Annotated[
    Money,
    pydantic.PlainValidator(lambda found: found if isinstance(found, Money) else Money(found)),
    pydantic.PlainSerializer(str),
]


class Priced(pydantic.BaseModel):
    price: StoredMoney
    parts: list[StoredMoney] = []


class Rounded(pydantic.BaseModel):
    price: Annotated[
        Money, pydantic.PlainValidator(lambda found: found), pydantic.PlainSerializer(str)
    ]


def test_a_model_says_how_a_value_without_json_is_stored(connect: Connect) -> None:
    store = connect(events=[Priced, Rounded])
    event = Priced(price=Money("5 EUR"), parts=[Money("2 EUR")])
    store.append("order-1", event, expected=NO_STREAM)
    (found,) = store.read("order-1")
    assert found.data == event
    assert found.to_dict()["data"] == {"price": "5 EUR", "parts": ["2 EUR"]}
    with pytest.raises(EncodingFailed, match="price is a Money and would be read back as a str"):
        store.append("order-1", Rounded(price=Money("5 EUR")), expected=ANY)


# Unions of value objects --------------------------------------------------------------------------


class Card(msgspec.Struct, frozen=True, tag=True):
    number: str


class BankTransfer(msgspec.Struct, frozen=True, tag="bank"):
    number: str


@dataclass(frozen=True)
class PaidBy:
    by: Card | BankTransfer
    earlier: list[Card | BankTransfer] = field(default_factory=list)


class CardModel(pydantic.BaseModel):
    kind: Literal["card"] = "card"
    number: str


class BankModel(pydantic.BaseModel):
    kind: Literal["bank"] = "bank"
    number: str


class PaidByModel(pydantic.BaseModel):
    by: Annotated[CardModel | BankModel, pydantic.Field(discriminator="kind")]


@dataclass(frozen=True)
class PaidByOne:
    """One class with optional fields."""

    card: str | None = None
    bank: str | None = None


@pytest.mark.parametrize(
    "event",
    [
        PaidBy(Card("1"), [BankTransfer("2"), Card("3")]),
        PaidBy(BankTransfer("1")),
        PaidByModel(by=CardModel(number="1")),
        PaidByModel(by=BankModel(number="1")),
        PaidByOne(bank="1"),
    ],
    ids=["card", "bank", "model card", "model bank", "optional"],
)
def test_a_value_of_several_classes_comes_back_as_its_own(connect: Connect, event: Any) -> None:
    store = connect(events=[PaidBy, PaidByModel, PaidByOne])
    store.append("order-1", event, expected=NO_STREAM)
    (found,) = store.read("order-1")
    assert found.data == event
    if not isinstance(event, PaidByOne):
        assert type(found.data.by) is type(event.by)
