"""Convert events to type names and JSON, and back."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, Optional, TypeVar, Union
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indelible import InvalidInput
from indelible.errors import DecodingFailed, EncodingFailed, UnknownEventType
from indelible.serialization.codec import Codec
from indelible.serialization.json_encoding import decode_metadata
from indelible.streams.rows import decode_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Created:
    number: int = 0


@dataclass(frozen=True, slots=True)
class Canceled:
    reason: str = ""


class Renamed(msgspec.Struct, frozen=True):
    name: str = ""


@attrs.frozen
class Paid:
    amount: Decimal = Decimal(0)


class Shipped(pydantic.BaseModel):
    code: str = ""


@dataclass(frozen=True)
class Named:
    event_type: ClassVar[str] = "thing.named"


class NamedStruct(msgspec.Struct):
    event_type: ClassVar[str] = "thing.named.struct"


class NamedModel(pydantic.BaseModel):
    event_type: ClassVar[str] = "thing.named.model"


ALL = (Created, Canceled, Renamed, Paid, Shipped)


# Registration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        ALL,
        list(ALL),
        set(ALL),
        iter(ALL),
        Created | Canceled | Renamed | Paid | Shipped,
        Union[Created, Canceled, Renamed, Paid, Shipped],
        [Created | Canceled, Renamed, [Paid, Shipped]],
        [Created, *ALL, Created | Paid],
        {event_class.__name__: event_class for event_class in ALL},
    ],
    ids=["tuple", "list", "set", "iterator", "union", "Union", "nested", "twice", "mapping"],
)
def test_classes_may_be_given_in_many_ways(events: Any) -> None:
    codec = Codec(events)

    assert dict(codec.classes) == {event_class.__name__: event_class for event_class in ALL}
    assert [codec.type_of(event_class()) for event_class in ALL] == [
        event_class.__name__ for event_class in ALL
    ]


def test_one_class_needs_no_list() -> None:
    assert dict(Codec(Created).classes) == {"Created": Created}


def test_a_class_may_name_its_type() -> None:
    assert sorted(Codec([Named, NamedStruct, NamedModel]).classes) == [
        "thing.named",
        "thing.named.model",
        "thing.named.struct",
    ]


def test_a_mapping_wins_over_the_name_of_the_class() -> None:
    codec = Codec(MappingProxyType({"other": Named, "created": Created}))

    assert codec.type_of(Named()) == "other"
    assert codec.type_of(Created()) == "created"


def test_the_first_of_two_names_is_the_one_written() -> None:
    codec = Codec({"new": Created, "old": Created})

    assert codec.type_of(Created()) == "new"
    assert codec.decode("old", b'{"number":1}') == Created(1)


def test_classes_are_shown_and_not_given_away() -> None:
    classes: Any = Codec(Created).classes

    with pytest.raises(TypeError):
        classes["x"] = Paid


class NotAnEvent:
    pass


class Pair(NamedTuple):
    a: int


class Typed(msgspec.Struct, Generic[T]):
    value: T


class Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "events",
    [
        NotAnEvent,
        [NotAnEvent],
        int,
        str,
        dict,
        Pair,
        Number,
        None,
        7,
        "Created",
        ["Created"],
        [None],
        Optional[Created],  # noqa: UP045
        Created | None,
        Created(),
        [Created()],
        lambda: Created,
        {"created": "Created"},
        {"created": None},
        {"created": [Created]},
        {"": Created},
        {7: Created},
        {None: Created},
        {"a\x00b": Created},
        {"x" * 256: Created},
        Typed[int],
        [Typed[int]],
        list[Created],
        Any,
        T,
    ],
    ids=lambda value: ascii(value).split(" at 0x")[0][:60],
)
def test_what_is_no_event_class_is_refused(events: Any) -> None:
    with pytest.raises(InvalidInput):
        Codec(events)


@pytest.mark.parametrize("name", ["", 7, None, "a\x00", "x" * 256], ids=lambda n: ascii(n)[:9])
def test_a_bad_name_in_a_class_is_refused(name: object) -> None:
    bad = dataclass(type("Bad", (), {"event_type": name}))

    with pytest.raises(InvalidInput):
        Codec(bad)


def test_two_classes_for_one_type_are_refused_by_name() -> None:
    @dataclass
    class Other:
        event_type: ClassVar[str] = "Created"

    with pytest.raises(InvalidInput, match=r"Created.*Other"):
        Codec([Created, Other])


def test_a_class_with_a_field_that_has_no_json_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"OfNone\.value .* written as JSON: make it a dataclass"
    ):
        Codec(OfNone)


@dataclass
class OfNone:
    value: object


@dataclass
class OfBoth:
    value: Created | Canceled


@dataclass
class OfMany:
    values: list[Shipped | Paged] | None


class Paged(pydantic.BaseModel):
    page: int


class Untagged(msgspec.Struct):
    page: int


class OtherUntagged(msgspec.Struct):
    line: int


@attrs.define
class OfUntagged:
    value: Untagged | OtherUntagged


@pytest.mark.parametrize("event_class", [OfBoth, OfMany, OfUntagged])
def test_a_union_that_json_cannot_tell_apart_is_refused_with_the_ways_out(
    event_class: type,
) -> None:
    ways_out = r"one class with optional fields, or msgspec Structs with tag=True, or .* pydantic"
    with pytest.raises(InvalidInput, match=f"{event_class.__name__} cannot be .*{ways_out}"):
        Codec(event_class)


@dataclass
class WithModel:
    model: Shipped
    models: list[Shipped] = field(default_factory=list)


def test_a_class_may_have_a_pydantic_model_in_it() -> None:
    codec = Codec(WithModel)
    event = WithModel(Shipped(code="a"), [Shipped(code="b")])

    assert codec.decode("WithModel", codec.encode("WithModel", event)) == event


@pytest.mark.parametrize("unknown", ["ignore", "", None, True])
def test_unknown_is_one_of_two_words(unknown: Any) -> None:
    with pytest.raises(InvalidInput, match="unknown"):
        Codec(Created, unknown=unknown)


def test_an_unknown_type_is_raised_or_kept() -> None:
    with pytest.raises(UnknownEventType):
        Codec(Created).decode("Other", b"{}")

    assert Codec(Created, unknown="keep").decode("Other", b'{"a":[1]}') == {"a": [1]}
    assert Codec().decode("Other", b'{"a":[1]}') == {"a": [1]}


@pytest.mark.parametrize(
    ("event_class", "data"),
    [
        (Created, b'{"number":"1"}'),
        (Created, b'{"number":1.5}'),
        (Created, b"[]"),
        (Created, b"null"),
        (Canceled, b'{"reason":1}'),
        (Renamed, b'{"name":null}'),
        (Paid, b'{"amount":"x"}'),
        (Shipped, b'{"code":1}'),
        (Shipped, b"[]"),
    ],
)
def test_data_that_does_not_fit_is_refused(event_class: type, data: bytes) -> None:
    with pytest.raises(DecodingFailed, match=event_class.__name__):
        Codec(event_class).decode(event_class.__name__, data)


# Round trips ----------------------------------------------------------------------------------


class Shade(Enum):
    LIGHT = "light"
    DARK = "dark"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Leaf:
    value: Decimal
    ids: frozenset[UUID]


class Branch(msgspec.Struct, frozen=True):
    leaves: tuple[Leaf, ...]
    shade: Shade | None


@dataclass(frozen=True, slots=True)
class Tree:
    text: str
    whole: int
    real: float
    yes: bool
    nothing: None
    raw: bytes
    id: UUID
    at: datetime
    on: date
    clock: time
    within: timedelta
    money: Decimal
    shade: Shade
    level: Level
    branches: list[Branch]
    texts: set[str]
    shades: frozenset[Shade]
    pair: tuple[int, str]
    by_text: dict[str, list[int]]
    by_number: dict[int, str]
    by_id: dict[UUID, bool]
    maybe: int | None


def texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


# A negative zero is rejected: the database cannot store it.
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=OFFSETS
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
LEAVES = st.builds(Leaf, DECIMALS, st.frozensets(st.uuids(), max_size=3))
BRANCHES = st.builds(
    Branch,
    st.lists(LEAVES, max_size=2).map(tuple),
    st.one_of(st.none(), st.sampled_from(Shade)),
)
TREES = st.builds(
    Tree,
    text=texts(),
    whole=st.integers(),
    real=FLOATS,
    yes=st.booleans(),
    nothing=st.none(),
    raw=st.binary(max_size=9),
    id=st.uuids(),
    at=MOMENTS,
    on=st.dates(),
    clock=st.times(),
    within=st.timedeltas(),
    money=DECIMALS,
    shade=st.sampled_from(Shade),
    level=st.sampled_from(Level),
    branches=st.lists(BRANCHES, max_size=2),
    texts=st.sets(texts(), max_size=4),
    shades=st.frozensets(st.sampled_from(Shade)),
    pair=st.tuples(st.integers(), texts()),
    by_text=st.dictionaries(texts(), st.lists(st.integers(), max_size=2), max_size=3),
    by_number=st.dictionaries(st.integers(-(2**63), 2**63 - 1), texts(), max_size=3),
    by_id=st.dictionaries(st.uuids(), st.booleans(), max_size=2),
    maybe=st.one_of(st.none(), st.integers()),
)


@given(TREES)
def test_typed_values_come_back_exactly(tree: Tree) -> None:
    codec = Codec(Tree)

    back = codec.decode("Tree", codec.encode("Tree", tree))

    assert back == tree
    assert math.copysign(1, back.real) == math.copysign(1, tree.real)
    assert back.money.as_tuple() == tree.money.as_tuple()
    assert back.at.utcoffset() == tree.at.utcoffset()


def plain() -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        FLOATS,
        texts(),
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3),
        max_leaves=8,
    )


@given(plain())
@example({"$oid": "x", "": {"\\u0000": "null"}, "2024-01-01T00:00:00": "2024-01-01T00:00:00"})
def test_plain_values_come_back_exactly(value: Any) -> None:
    written = Codec().encode("Plain", value)

    assert Codec().decode("Plain", written) == value
    assert json.loads(written) == value


@given(st.dictionaries(texts(), plain(), max_size=3))
def test_metadata_comes_back_exactly(metadata: dict[str, Any]) -> None:
    assert decode_metadata(Codec().encode("Plain", metadata, field="metadata")) == metadata


@dataclass
class AnyOf:
    value: Any


NAIVE = datetime(2024, 1, 1)
CANNOT = st.sampled_from([math.nan, math.inf, -math.inf, "\x00", "\udfff", NAIVE, object(), 1j])
AROUND = st.recursive(
    CANNOT.map(lambda value: (value, "")),
    lambda inner: st.one_of(
        inner.map(lambda pair: ([None, pair[0]], "[1]" + pair[1])),
        inner.map(lambda pair: ({"k": pair[0], "n": None}, ".k" + pair[1])),
        inner.map(lambda pair: (AnyOf(pair[0]), ".value" + pair[1])),
        inner.map(lambda pair: ((pair[0],), "[0]" + pair[1])),
    ),
    max_leaves=4,
)


@given(AROUND)
def test_what_cannot_be_kept_is_found_wherever_it_is(pair: tuple[Any, str]) -> None:
    value, path = pair

    with pytest.raises(EncodingFailed) as error:
        Codec().encode("Plain", value)

    assert error.value.field == "data" + path
    assert error.value.event_type == "Plain"


@given(AROUND)
def test_what_cannot_be_kept_is_not_written_together_with_others(pair: tuple[Any, str]) -> None:
    value, _ = pair

    assert Codec(AnyOf).encode_together([AnyOf(1), AnyOf(value)]) is None


@given(st.lists(plain()))
def test_values_written_together_are_what_they_are_alone(values: list[Any]) -> None:
    codec = Codec()

    written = codec.encode_together(values)

    assert written in (None, b"[" + b",".join(codec.encode("Plain", v) for v in values) + b"]")


@pytest.mark.parametrize(
    "value",
    [
        {1: "one", "1": "uno"},
        {"x": [{1.5: 0, "1.5": 1}]},
        {UUID(int=1): 0, str(UUID(int=1)): 1},
        {date(2024, 1, 1): 0, "2024-01-01": 1},
    ],
    ids=str,
)
def test_keys_that_are_one_in_json_are_refused(value: Any) -> None:
    with pytest.raises(EncodingFailed):
        Codec().encode("Plain", value)


@pytest.mark.parametrize(
    "value",
    [{1: "a", 2: "b"}, {UUID(int=7): 1}, {date(2024, 1, 1): 1}, {1.5: 1}, {Level.LOW: 1}],
    ids=str,
)
def test_keys_of_other_types_are_written_as_text(value: Any) -> None:
    written = json.loads(Codec().encode("Plain", {"x": [value]}))

    assert len(written["x"][0]) == len(value)
    assert all(isinstance(key, str) for key in written["x"][0])


@dataclass
class SetOfShades:
    value: frozenset[Shade]


def test_a_set_of_what_has_no_order_is_written() -> None:
    codec = Codec(SetOfShades)
    event = SetOfShades(frozenset(Shade))

    assert codec.decode("SetOfShades", codec.encode("SetOfShades", event)) == event


class Partial(msgspec.Struct):
    a: int | msgspec.UnsetType = msgspec.UNSET
    b: int | None = None


def test_a_field_that_is_unset_stays_so_beside_one_that_is_none() -> None:
    codec = Codec(Partial)

    assert codec.encode("Partial", Partial()) == b'{"b":null}'
    assert codec.decode("Partial", b'{"b":null}') == Partial()


@attrs.define
class Hidden:
    _secret: str


@dataclass
class HiddenToo:
    _secret: str


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    value: Any = None


class StringsForNan(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="strings")

    value: float
    other: int | None = None


@pytest.mark.parametrize("value", [math.nan, math.inf, "\x00", NAIVE], ids=ascii)
def test_what_hides_in_a_model_is_found(value: Any) -> None:
    for model in (Model(value=value), Model(value=[value]), Model(extra=value)):
        with pytest.raises(EncodingFailed):
            Codec(Model).encode("Model", model)
        with pytest.raises(EncodingFailed):
            Codec([Model, AnyOf]).encode("AnyOf", AnyOf([model]))


def test_a_ring_is_refused() -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = [ring]

    with pytest.raises(EncodingFailed):
        Codec().encode("Plain", ring)


def test_a_mapping_that_is_no_dict_says_so() -> None:
    mapping: Mapping[str, int] = MappingProxyType({"a": 1})

    with pytest.raises(EncodingFailed, match=r"data\.x"):
        Codec().encode("Plain", {"x": mapping})


def test_moments_at_the_ends_of_time_come_back() -> None:
    @dataclass
    class At:
        at: datetime

    codec = Codec({"At": At})
    for at in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert codec.decode("At", codec.encode("At", At(at))) == At(at)


# Signal handlers that raise during a call --------------------------------------------------------


class TimeLimit(Exception):
    """What a handler raises."""


class Interrupted(pydantic.BaseModel):
    """Is in the middle of being read or written when a signal comes."""

    signals: ClassVar[int] = 0

    @pydantic.model_validator(mode="after")
    def read(self) -> Interrupted:
        self.meet_signal()
        return self

    def model_dump_json(self, **options: Any) -> str:
        self.meet_signal()
        return super().model_dump_json(**options)

    @classmethod
    def meet_signal(cls) -> None:
        if cls.signals:
            cls.signals -= 1
            signal.raise_signal(signal.SIGALRM)


@pytest.fixture
def time_limit() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, end)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize(
    "work",
    [
        lambda codec: codec.encode("Interrupted", Interrupted.model_construct()),
        lambda codec: codec.encode_together([Interrupted.model_construct()]),
        lambda codec: codec.decode("Interrupted", b"{}"),
        lambda codec: decode_rows(
            codec,
            [
                (
                    1,
                    "a-1",
                    0,
                    bytes(16),
                    "Interrupted",
                    b"\x01{}",
                    None,
                    None,
                    "a",
                    bytes(8),
                    bytes(8),
                )
            ],
        ),
    ],
    ids=["encode", "encode_together", "decode", "decode_rows"],
)
def test_what_a_handler_of_a_signal_raises_is_no_fault_of_the_data(
    work: Callable[[Codec], object],
) -> None:
    codec = Codec([Interrupted])
    Interrupted.signals = 1
    try:
        with pytest.raises(TimeLimit):
            work(codec)
    finally:
        Interrupted.signals = 0


def test_what_a_class_raises_each_time_is_a_fault_of_the_data() -> None:
    @dataclass(frozen=True)
    class Strict:
        def __post_init__(self) -> None:
            raise TimeLimit("of its own")

    with pytest.raises(DecodingFailed, match="of its own"):
        Codec([Strict]).decode("Strict", b"{}")
