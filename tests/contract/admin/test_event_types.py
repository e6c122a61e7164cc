"""List the event types of a store, and check whether the current code can read them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pydantic
import pytest
from typing_extensions import TypeAliasType

from indelible import (
    ANY,
    AppendCondition,
    AppendConditionFailed,
    DecisionModel,
    DocumentProjection,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    StreamAppend,
    Upcaster,
    handles,
    unregistered,
)
from indelible.bulk_import import ImportEvent
from indelible.errors import EncodingFailed, ProjectionFailed
from tests.conftest import Connect

# This tests operations and client APIs; other tests cover the statements.
pytestmark = pytest.mark.parametrize("server_url", ["embedded"], indirect=True, scope="session")


@dataclass(frozen=True)
class Ordered:
    price: float


def append(store: EventStore, event_type: str, *data: object) -> list[int]:
    return [
        store.append("order-1", NewEvent(event_type, one), expected=ANY).position for one in data
    ]


def test_every_type_is_counted_over_all_windows(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.admin.event_types._WINDOW", 2)
    store = connect(
        events=[Ordered, Upcaster("Old", into="Ordered"), Upcaster("Gone", into=())],
    )
    plain = connect()
    ordered = append(plain, "Ordered", {"price": 1}, {"price": 2})
    append(plain, "Gone", {})
    old = append(plain, "Old", {"price": 3}, {"price": 4}, {"price": 5})
    times = {event.position: event.recorded_at for event in plain.read_all()}

    gone, older, current = store.types()

    assert (gone.type, gone.upcasters, gone.is_registered) == ("Gone", ("Gone -> nothing",), False)
    assert (older.type, older.events, older.is_registered) == ("Old", 3, False)
    assert (older.first_position, older.first_recorded_at) == (old[0], times[old[0]])
    assert (older.last_position, older.last_recorded_at) == (old[-1], times[old[-1]])
    assert (current.type, current.events, current.upcasters) == ("Ordered", 2, ())
    assert (current.first_position, current.is_registered) == (ordered[0], True)


def test_what_cannot_be_read_is_told_with_its_place_and_reason(connect: Connect) -> None:
    store = connect(events=[Ordered, Upcaster("Old", into="Ordered")])
    plain = connect()
    append(plain, "Ordered", *({"price": n} for n in range(8)))
    first, *_, last = append(plain, "Old", {}, *({"price": n} for n in range(5)), {})
    append(plain, "Lost", {})

    lost, old, ordered = store.check_types(samples=3)

    assert (ordered.events, ordered.failures) == (8, ())
    assert 3 <= ordered.checked <= 5
    assert [failure.position for failure in old.failures] == [first, last]
    assert old.failures[0].stream == "order-1"
    assert "price" in old.failures[0].reason
    assert "no registered class" in lost.failures[0].reason


def test_without_classes_there_is_nothing_to_check(connect: Connect) -> None:
    with pytest.raises(InvalidInput, match="events="):
        connect().check_types()


# Tags -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subscribed:
    event_tags = ("course:{course}", "student:{student}")
    event_upcasters = (
        Upcaster("Enrolled", lambda data: {"course": data["class"], "student": data["who"]}),
    )

    course: str
    student: str | None = None


class Graded(pydantic.BaseModel):
    event_tags: ClassVar[str] = "student:{student}"

    student: str
    grade: float


TAGS = ("course:c1", "student:s1")
PLAIN = {"course": "c1", "student": "s1"}
LINE = '{"stream":"a-1","type":"Subscribed","data":{"course":"c1","student":"s1"}%s}'


@pytest.mark.parametrize(
    "append",
    [
        lambda store: store.append("a-1", Subscribed("c1", "s1"), expected=ANY),
        lambda store: store.append("a-1", NewEvent("Subscribed", PLAIN), expected=ANY),
        lambda store: store.append(None, NewEvent("Subscribed", PLAIN)),
        lambda store: store.append(
            "a-1", NewEvent("Enrolled", {"class": "c1", "who": "s1"}), expected=ANY
        ),
        lambda store: store.append_many(
            [StreamAppend("a-1", NewEvent("Subscribed", PLAIN, tags=["student:s1"]), ANY)]
        ),
        lambda store: store.import_events([LINE % ""], source="file"),
        lambda store: store.import_events([LINE % ',"tags":["course:c1"]'], source="file"),
        lambda store: store.import_events([ImportEvent("a-1", PLAIN, "Subscribed")], source="file"),
        lambda store: store.import_events([ImportEvent("a-1", Subscribed("c1", "s1"))], source="f"),
    ],
    ids=[
        *("instance", "plain", "without a stream", "earlier type", "part", "line"),
        *("line with tags", "import of plain data", "import of an instance"),
    ],
)
def test_tags_do_not_depend_on_how_data_is_given(
    connect: Connect, append: Callable[[EventStore], object]
) -> None:
    store = connect(events=[Subscribed])

    append(store)

    (event,) = store.read_all(Query(tags=TAGS))
    assert (event.data, event.tags) == (Subscribed("c1", "s1"), TAGS)


def test_plain_data_of_a_model_has_its_tags_too(connect: Connect) -> None:
    store = connect(events=[Graded, Subscribed])

    store.append("a-1", NewEvent("Graded", {"student": "s1", "grade": 1}), expected=ANY)
    store.append("a-1", NewEvent("Subscribed", {"course": "c1"}), expected=ANY)

    assert [event.tags for event in store.read("a-1")] == [("student:s1",), ("course:c1",)]


@pytest.mark.parametrize(
    ("event_type", "data", "field"),
    [
        ("Subscribed", {"course": 7}, "data.course"),
        ("Subscribed", {"student": "s1"}, "data"),
        ("Enrolled", {"class": "c1"}, "data"),
        ("Graded", {"student": "s1", "grade": "good"}, "data.grade"),
        ("Ordered", {"prize": 1}, "data"),
    ],
)
def test_plain_data_that_its_class_cannot_read_is_refused(
    connect: Connect, event_type: str, data: Any, field: str
) -> None:
    store = connect(events=[Subscribed, Graded, Ordered])

    for call in (
        lambda: store.append("a-1", NewEvent(event_type, data), expected=ANY),
        lambda: store.import_events([ImportEvent("a-1", data, event_type)], source="file"),
    ):
        with pytest.raises(EncodingFailed, match="could not be read back") as error:
            call()
        assert error.value.field == field
    assert store.stats().events == 0


class OrderId(str):
    pass


@dataclass(frozen=True)
class Placed:
    event_tags = ("order:{order}",)

    order: OrderId
    item: str


def test_names_may_be_of_a_class_derived_from_text(connect: Connect) -> None:
    store = connect(events=[Placed])
    order, item = OrderId("order-1"), OrderId("book")
    tags = [OrderId("item:book")]

    store.append(order, [Placed(order, item), Placed(order, "pen")], expected=ANY)
    store.append_many([StreamAppend(order, NewEvent("Placed", Placed(order, item), tags=tags), 1)])

    events = list(store.read(order))
    assert [event.data.order for event in events] == [order] * 3
    assert {type(event.data.order) for event in events} == {OrderId}
    assert events[2].tags == ("item:book", "order:order-1")
    assert len(list(store.read_all(Query(types=OrderId("Placed"), tags=tags)))) == 1


# Names ------------------------------------------------------------------------------------------

MISSPELT = Query(types=["Ordered", "Subscribd"])


def model(query: Query) -> DecisionModel[int]:
    return DecisionModel(query, initial=0, evolve=lambda count, _: count + 1)


def decide(store: EventStore, query: Query) -> None:
    with store.decide(model(Query(tags="a:1")), model(query)):
        pass


def append_if(store: EventStore, query: Query) -> None:
    with suppress(AppendConditionFailed):  # it was looked at
        ordered = NewEvent("Ordered", {"price": 1})
        store.append(None, ordered, condition=AppendCondition(query, after=0))


USES: dict[str, Callable[[EventStore, Query], object]] = {
    "read_all": lambda store, query: list(store.read_all(query)),
    "read_all valid_at": lambda store, query: list(
        store.read_all(query, valid_at=datetime(2024, 1, 1, tzinfo=UTC))
    ),
    "read_matching": lambda store, query: store.read_matching(query),
    "condition": append_if,
    "decide": decide,
    "decide_with": lambda store, query: store.decide_with(lambda count: None, model(query)),
    "group": lambda store, query: store.group("g").create(query, exists="change"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_name_that_no_class_has_is_refused_unless_it_is_meant(
    connect: Connect, use: Callable[[EventStore, Query], object]
) -> None:
    store = connect(events=[Ordered, Subscribed])

    with pytest.raises(InvalidInput, match=r"'Subscribd' is not registered: did you mean 'Subsc"):
        use(store, MISSPELT)
    assert store.stats().events == 0

    use(store, Query(types=["Ordered", "Enrolled"]))
    use(connect(events=[Ordered]), Query(types=["Ordered", unregistered("Subscribd")], tags="b:1"))
    use(connect(), MISSPELT)


def test_what_is_meant_without_a_class_is_found(connect: Connect) -> None:
    append(connect(), "Ordered", {"price": 1})
    append(connect(), "Imported", {})
    store = connect(events=[Ordered], unknown="keep")
    query = Query(types=["Ordered", unregistered("Imported")])

    assert [event.type for event in store.read_all(query)] == ["Ordered", "Imported"]
    assert [event.type for event in store.read_matching(query)] == ["Ordered", "Imported"]
    with pytest.raises(InvalidInput, match="types"):
        unregistered("")


Either = TypeAliasType("Either", Ordered | Subscribed)


def test_handlers_take_unions_and_aliases(connect: Connect) -> None:
    class Counts(DocumentProjection[dict]):
        name = "counts"

        @handles(Either)
        def counted(self, document: dict | None, event: RecordedEvent) -> dict:
            return {"count": 1 + (document or {"count": 0})["count"]}

    store = connect(events=Either)
    store.append("a-1", [Ordered(1.0), Subscribed("c1")], expected=ANY)

    assert store.project(Counts, "a-1").document == {"count": 2}


@pytest.mark.parametrize("misspelt", ["Orderd", "Nothing"])
def test_a_projection_of_a_name_that_no_class_has_is_refused(
    connect: Connect, misspelt: str
) -> None:
    class Counts(DocumentProjection[dict]):
        name = "counts"

        @handles(misspelt)
        def counted(self, document: dict | None, event: RecordedEvent) -> dict:
            return {}

    class Filtered(DocumentProjection[dict]):
        name = "filtered"
        query = Query(types=misspelt)

        @handles(Ordered)
        def counted(self, document: dict | None, event: RecordedEvent) -> dict:
            return {}

    store = connect(events=[Ordered])
    for projection in (Counts, Filtered):
        with pytest.raises(InvalidInput, match=f"{misspelt!r} is not registered"):
            store.catch_up(projection)
        with pytest.raises(InvalidInput, match=f"{misspelt!r} is not registered"):
            connect(events=[Ordered], inline=[projection])


def test_a_handler_must_take_what_it_is_called_with(connect: Connect) -> None:
    class Short(DocumentProjection[dict]):
        name = "short"

        @handles(Ordered)
        def counted(self, event: RecordedEvent) -> dict:
            return {}

    class Yielding(DocumentProjection[dict]):
        name = "yielding"

        @handles(Ordered)
        def counted(self, document: dict | None, event: RecordedEvent) -> Any:
            yield {}

    store = connect(events=[Ordered])
    with pytest.raises(
        InvalidInput, match=r"called with \(document, event\) but has the signature \(event"
    ):
        store.catch_up(Short)
    with pytest.raises(InvalidInput, match="yield"):
        store.catch_up(Yielding)


def test_a_handler_must_return_a_document(connect: Connect) -> None:
    class Orders(DocumentProjection[Ordered]):
        name = "orders"

        @handles(Ordered)
        def counted(self, document: Ordered | None, event: RecordedEvent) -> Any:
            return {"price": 1.0}

    store = connect(events=[Ordered])
    store.append("a-1", Ordered(1.0), expected=ANY)

    with pytest.raises(ProjectionFailed, match="returned a dict: return the document, a Ordered"):
        store.catch_up(Orders)
