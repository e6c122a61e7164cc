"""Values that JSON would change are rejected: by their class, or else by their value."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType

from indelible import IndelibleError, InvalidInput
from indelible.errors import DecodingFailed, EncodingFailed, UnregisteredEventClass
from indelible.serialization.codec import Codec

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
SECONDS = timezone(timedelta(hours=1, seconds=30))


# Classes ----------------------------------------------------------------------------------------


class WrittenUnderAnother(pydantic.BaseModel):
    at_fault: int = pydantic.Field(serialization_alias="b")


class WrittenUnderAnotherWithDefault(pydantic.BaseModel):
    at_fault: int = pydantic.Field(1, serialization_alias="b")


class ReadUnderAnother(pydantic.BaseModel):
    at_fault: int = pydantic.Field(1, validation_alias="b")


class ReadByPath(pydantic.BaseModel):
    at_fault: int = pydantic.Field(1, validation_alias=pydantic.AliasPath("b", 0))


class ReadByName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_by_name=True, validate_by_alias=False)

    at_fault: int = pydantic.Field(alias="b")


class Generated(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        alias_generator=pydantic.AliasGenerator(serialization_alias=str.upper)
    )

    at_fault: int = 1


class SkippedEvent(pydantic.BaseModel):
    at_fault: int = pydantic.Field(1, exclude=True)


class Secret(pydantic.BaseModel):
    at_fault: pydantic.SecretStr


class SecretInside(pydantic.BaseModel):
    at_fault: dict[str, list[pydantic.Secret[int]]]


class Ahead(pydantic.BaseModel):
    at_fault: pydantic.FutureDatetime


class Around(pydantic.BaseModel):
    parts: list[SkippedEvent] = []


@dataclass
class AroundModel:
    part: SkippedEvent | None = None


class Strange:
    pass


def holding(hint: Any) -> type:
    return make_dataclass("Holding", [("at_fault", hint)])


@pytest.mark.parametrize(
    "event_class",
    [
        WrittenUnderAnother,
        WrittenUnderAnotherWithDefault,
        ReadUnderAnother,
        ReadByPath,
        ReadByName,
        Generated,
        SkippedEvent,
        Secret,
        SecretInside,
        Ahead,
        Around,
        AroundModel,
        holding(Strange),
        holding(list[Strange]),
        holding(object),
        holding(complex),
        holding(pydantic.SecretStr),
    ],
    ids=lambda kind: f"{kind.__name__} {kind.__annotations__}"[:60],
)
def test_a_class_that_cannot_read_its_own_json_is_refused(event_class: type) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be an event class: \w+\.at_fault could not be"):
        Codec({"Event": event_class})


class Alias(pydantic.BaseModel):
    a: int = pydantic.Field(alias="b")


class AliasOrName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_by_name=True)

    a: int = pydantic.Field(serialization_alias="a", validation_alias="b")


class Choices(pydantic.BaseModel):
    a: int = pydantic.Field(
        serialization_alias="c", validation_alias=pydantic.AliasChoices("b", "c")
    )


class Revealed(pydantic.BaseModel):
    a: pydantic.SecretStr

    @pydantic.field_serializer("a", when_used="json")
    def reveal(self, value: pydantic.SecretStr) -> str:
        return value.get_secret_value()


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    a: int

    @pydantic.computed_field
    def double(self) -> int:
        return 2 * self.a


class Serialized(pydantic.BaseModel):
    at: date

    @pydantic.field_serializer("at")
    def write(self, value: date) -> str:
        return value.isoformat()


class Validated(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def strip(cls, value: str) -> str:
        return value.strip()


class Ring(pydantic.BaseModel):
    inner: list[Ring] = []


@dataclass
class Checked:
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("an amount below zero")


@pytest.mark.parametrize(
    "event",
    [
        Alias(b=1),
        AliasOrName(b=1),
        Choices(b=1),
        Revealed(a=pydantic.SecretStr("x")),
        Computed(a=1),
        Serialized(at=date(2024, 1, 1)),
        Validated(name=" a "),
        Ring(inner=[Ring()]),
        Checked(1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_reads_its_own_json_is_taken(event: Any) -> None:
    codec = Codec({"Event": type(event)})

    assert codec.decode("Event", codec.encode("Event", event)) == event


# Values -----------------------------------------------------------------------------------------


@dataclass
class Shape:
    size: int = 0


@dataclass
class Circle(Shape):
    pass


class Base(msgspec.Struct):
    size: int = 0


class Derived(Base):
    radius: int = 0


@attrs.frozen
class Part:
    size: int = 0


@attrs.frozen
class OtherPart(Part):
    pass


class Model(pydantic.BaseModel):
    size: int = 0


class OtherModel(Model):
    radius: int = 0


class Pair(NamedTuple):
    a: int


class Keys(TypedDict):
    a: int


class Colour(StrEnum):
    RED = "red"


def overdrawn() -> Checked:
    checked = Checked(1)
    checked.amount = -1
    return checked


@pytest.mark.parametrize(
    ("hint", "value", "place"),
    [
        (Shape, Circle(1), ""),
        (list[Shape], [Shape(1), Circle(1)], "[1]"),
        (dict[str, Shape], {"a": Circle(1)}, ".a"),
        (tuple[int, Shape], (1, Circle(1)), "[1]"),
        (Shape | None, Circle(1), ""),
        (Base, Derived(1), ""),
        (Part, OtherPart(1), ""),
        (Model, OtherModel(size=1), ""),
        (list[Model], [OtherModel(size=1)], "[0]"),
        (datetime, datetime(1930, 6, 1, 12, tzinfo=AMSTERDAM), ""),
        (datetime, datetime(2024, 6, 1, 12, tzinfo=SECONDS), ""),
        (list[datetime], [datetime(2024, 6, 1, 12, tzinfo=SECONDS)], "[0]"),
        (time, time(12, tzinfo=SECONDS), ""),
        (time, time(12, tzinfo=AMSTERDAM), ""),
        (Any, datetime(2024, 6, 1, 12, tzinfo=SECONDS), ""),
        (float, -0.0, ""),
        (float | None, float("nan"), ""),
        (float, float("inf"), ""),
        (float, 2**53 + 1, ""),
        (dict[str, Any], {"a": [-0.0]}, ".a[0]"),
        (int, True, ""),
        (int, "1", ""),
        (UUID, str(UUID(int=1)), ""),
        (date, datetime(2024, 1, 1, tzinfo=UTC), ""),
        (list[int], (1, 2), ""),
        (tuple[int, ...], [1, 2], ""),
        (Sequence[int], (1, 2), ""),
        (Literal["a", "b"], "c", ""),
        (Annotated[int, msgspec.Meta(gt=5)], 3, ""),
        (Keys, {"a": 1, "b": 2}, ""),
        (Checked, overdrawn(), ""),
    ],
    ids=lambda value: ascii(value).replace("tests.unit.test_exact.", "")[:60],
)
def test_a_value_that_would_not_come_back_is_refused(hint: Any, value: Any, place: str) -> None:
    codec = Codec(holding(hint))
    event_class = codec.classes["Holding"]

    with pytest.raises(EncodingFailed) as error:
        codec.encode("Holding", event_class(value))

    assert error.value.field == f"data.at_fault{place}"


class Holder(pydantic.BaseModel):
    part: Model = Model()
    parts: list[Model] = []
    at: datetime | None = None
    number: float = 0.0
    either: str | datetime = ""
    by_pair: dict[tuple[int, int], int] = {}
    _hidden: int = 0


class Scrambled(pydantic.BaseModel):
    a: int

    @pydantic.field_serializer("a")
    def write(self, value: int) -> str:
        return f"number {value}"


class Growing(pydantic.BaseModel):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def grow(cls, value: int) -> int:
        return value + 1


def hiding() -> Holder:
    holder = Holder()
    holder._hidden = 1
    return holder


@pytest.mark.parametrize(
    ("event", "place"),
    [
        (Holder(part=OtherModel()), ".part"),
        (Holder(parts=[OtherModel()]), ".parts[0]"),
        (Holder(at=datetime(1930, 6, 1, tzinfo=AMSTERDAM)), ".at"),
        (Holder(number=-0.0), ".number"),
        (Holder(either=datetime(2024, 1, 1, tzinfo=UTC)), ".either"),
        (Holder(by_pair={(1, 2): 3}), ".by_pair.1,2.[key]"),
        (hiding(), "._hidden"),
        (Scrambled(a=1), ".a"),
        (Growing(a=1), ".a"),
        (Model.model_construct(size="x"), ".size"),  # type: ignore[arg-type]
    ],
    ids=ascii,
)
def test_a_model_that_would_not_come_back_is_refused(event: Any, place: str) -> None:
    with pytest.raises(EncodingFailed) as error:
        Codec({"Event": type(event)}).encode("Event", event)

    assert error.value.field == f"data{place}"


def test_what_its_class_leaves_open_is_not_written_with_others_unseen() -> None:
    known = Codec(holding(Shape)).known
    (event_class,) = known

    assert known[event_class].exactness.is_exact(event_class(Shape(1)))
    assert not known[event_class].exactness.is_exact(event_class(Circle(1)))


def test_a_reason_does_not_tell_the_value() -> None:
    codec, number = Codec(holding(Literal["a"])), "4111-1111"

    with pytest.raises(EncodingFailed) as error:
        codec.encode("Holding", codec.classes["Holding"](number))

    assert "4111" not in "".join(traceback.format_exception(error.value))


# Classes derived from what JSON has -------------------------------------------------------------


class OrderId(str):
    pass


class Count(int):
    pass


class Share(float):
    pass


class Moment(datetime):
    """As freezegun's and pendulum's are."""


class Day(date):
    pass


class Clock(time):
    pass


class Span(timedelta):
    pass


class Money(Decimal):
    pass


class Blob(bytes):
    pass


class Key(UUID):
    pass


@pytest.mark.parametrize(
    "value",
    [
        OrderId("a"),
        Count(1),
        Share(1.5),
        Moment(2024, 1, 1, 12, 30, 15, 7, tzinfo=timezone(timedelta(hours=1))),
        Day(2024, 1, 1),
        Clock(12, 30),
        Span(days=-1, seconds=3, microseconds=5),
        Money("1.50"),
        Blob(b"a"),
        Key(int=1),
    ],
    ids=repr,
)
def test_classes_derived_from_scalars_are_what_they_are(value: Any) -> None:
    scalar = type(value).__mro__[1]
    for hint in (scalar, type(value)):
        codec = Codec(holding(hint))
        event = codec.classes["Holding"](value)

        back = codec.decode("Holding", codec.encode("Holding", event)).at_fault

        assert back == value
        assert type(back) is hint
    assert Codec().encode("Plain", {"a": [value]}) == Codec().encode(
        "Plain", {"a": [scalar.__new__(scalar, value) if scalar is str else value]}
    )


@pytest.mark.parametrize(
    ("hint", "data"), [(OrderId, b"1"), (Count, b'"1"'), (Moment, b'"x"'), (Key, b"[]")], ids=str
)
def test_a_class_derived_from_a_scalar_takes_nothing_else(hint: Any, data: bytes) -> None:
    with pytest.raises(DecodingFailed):
        Codec(holding(hint)).decode("Holding", b'{"at_fault":' + data + b"}")


# Aliases, and classes that are defined again ----------------------------------------------------


@dataclass
class A:
    number: int = 0


@dataclass
class B:
    number: int = 0


Either = TypeAliasType("Either", A | B)
Nested = TypeAliasType("Nested", Either)  # type: ignore[valid-type]


@pytest.mark.parametrize(
    "events",
    [Either, [Either], Nested, NewType("New", A), [A, Either]],
    ids=["alias", "list", "of an alias", "new type", "twice"],
)
def test_aliases_are_what_they_stand_for(events: Any) -> None:
    assert set(Codec(events).classes.values()) - {B} == {A}


def again(name: str, hint: type) -> type:
    made = dataclass(type(name, (), {"__annotations__": {"number": hint}}))
    made.__module__ = "notebook"
    return made


def test_a_class_that_is_defined_again_takes_its_place() -> None:
    first, second, other = again("Noted", int), again("Noted", str), again("Other", int)
    codec = Codec([first])

    assert codec.type_of(second("a")) == "Noted"
    assert codec.encode("Noted", second("a")) == b'{"number":"a"}'
    assert type(codec.decode("Noted", b'{"number":"a"}')) is second
    assert codec.type_of(first(1)) == "Noted"
    assert codec.type_of_class(again("Noted", str)) == "Noted"
    with pytest.raises(UnregisteredEventClass):
        codec.type_of(other(1))


def test_of_two_classes_with_one_name_in_a_list_the_last_counts() -> None:
    first, second = again("Noted", int), again("Noted", str)

    assert dict(Codec([first, second]).classes) == {"Noted": second}


# Errors for data that does not fit --------------------------------------------------------------


class Address(pydantic.BaseModel):
    street: str
    number: int


class Card(pydantic.BaseModel):
    number: int
    addresses: list[Address] = []


@dataclass
class Payment:
    card: Card
    kind: Colour = Colour.RED
    items: list[int] = field(default_factory=list)


@pytest.mark.parametrize(
    ("event_class", "data", "place"),
    [
        (Card, b'{"number":"4111-1111"}', ".number"),
        (
            Card,
            b'{"number":1,"addresses":[{"street":"x","number":"4111-1"}]}',
            ".addresses[0].number",
        ),
        (Card, b'["4111"]', ""),
        (Payment, b'{"card":{"number":"4111-1111"}}', ".card"),
        (Payment, b'{"card":{"number":1},"kind":"4111"}', ".kind"),
    ],
    ids=["field", "nested", "whole", "model in a dataclass", "enum"],
)
@pytest.mark.parametrize("act", ["decode", "as_read"])
def test_data_that_does_not_fit_is_not_shown(
    event_class: type, data: bytes, place: str, act: str
) -> None:
    codec = Codec({"Event": event_class})
    read: Callable[[], object] = lambda: codec.decode("Event", data)  # noqa: E731
    if act == "as_read":
        read = lambda: codec.as_decoded("Event", msgspec.json.decode(data))  # noqa: E731

    with pytest.raises(IndelibleError) as error:
        read()

    if isinstance(error.value, DecodingFailed):
        assert error.value.place == place
    else:
        assert isinstance(error.value, EncodingFailed)
        assert error.value.field == f"data{place}"
    assert "4111" not in "".join(traceback.format_exception(error.value))
