"""Find the events of a correlation, and what caused an event: with the index, and without."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from indelible import ANY, EventStore, NewEvent, Query
from indelible.access import Grant, Principal, Verb
from indelible.admin import correlation
from indelible.admin.correlation import Correlation, Links, correlated, events_by_id, links
from indelible.postgres.maintenance import drop_correlation_index, index_correlation

# Operations run alike in both kinds of stores.
pytestmark = pytest.mark.parametrize("server_url", ["embedded"], indirect=True, scope="session")


@pytest.fixture
def store(url: str, schema: str) -> Iterator[EventStore]:
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


def append(
    store: EventStore, stream: str, *, correlates: str | None = None, cause: UUID | None = None
) -> UUID:
    """Append an event with the metadata of one spelling, by turns the other."""
    number = store.head()
    names = ("correlation_id", "causation_id")
    if number % 2:
        names = ("$correlationId", "$causationId")
    values = (correlates, None if cause is None else str(cause))
    metadata = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    event_id = uuid4()
    event = NewEvent("Happened", {}, id=event_id, metadata=metadata)
    store.append(stream, event, expected=ANY)
    return event_id


def found(store: EventStore, value: str, **options: object) -> Correlation:
    return store._engine.run(correlated(value, upto=store.head(), **options))  # type: ignore[arg-type]


def linked(store: EventStore, event_id: UUID, query: Query | None = None) -> Links:
    (event,) = store._engine.run(events_by_id([event_id], upto=store.head()))
    return store._engine.run(
        links(
            event_id,
            position=event.position,
            correlation=event.correlation,
            causation=event.causation,
            upto=store.head(),
            query=query,
        )
    )


@pytest.mark.parametrize("is_indexed", [False, True])
def test_both_spellings_and_archived_events_are_found(store: EventStore, is_indexed: bool) -> None:
    if is_indexed:
        index_correlation(store._engine._settings)
    first = append(store, "order-1", correlates="c")
    append(store, "order-2", correlates="other")
    second = append(store, "bill-1", correlates="c", cause=first)
    third = append(store, "order-1", correlates="c", cause=second)
    append(store, "order-1")
    store.close_stream("bill-1", expected=ANY)
    store.archive_stream("bill-1")

    together = found(store, "c", near=1)
    assert [event.id for event in together.events] == [first, second, third]
    assert [event.stream for event in together.events] == ["order-1", "bill-1", "order-1"]
    assert together.found_by == ("index" if is_indexed else "near")
    assert not together.is_cut

    around = linked(store, second)
    assert around.cause is not None
    assert around.cause.id == first
    assert [event.id for event in around.effects] == [third]
    assert around.correlation is not None
    assert [event.id for event in around.correlation.events] == [first, second, third]


@pytest.mark.parametrize("is_indexed", [False, True])
def test_what_a_principal_may_not_read_is_not_found(store: EventStore, is_indexed: bool) -> None:
    if is_indexed:
        index_correlation(store._engine._settings)
    first = append(store, "order-1", correlates="c")
    second = append(store, "bill-1", correlates="c", cause=first)
    append(store, "secret-1", correlates="c", cause=second)
    principal = Principal(
        "reader",
        [
            Grant(frozenset({Verb.READ}), channel="bill"),
            Grant(frozenset({Verb.APPEND}), channel="secret"),
        ],
    )
    query = principal.narrow(Verb.READ, Query())
    together = found(store, "c", near=1, query=query)
    assert [event.stream for event in together.events] == ["bill-1"]
    assert linked(store, second, query).cause is None
    assert linked(store, second, query).effects == ()


def test_without_the_index_a_tag_of_the_same_value_reaches_the_whole_log(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "NEAR", 1)
    event = NewEvent("Placed", {}, tags=["order:7"], metadata={"correlation_id": "7"})
    store.append("order-7", event, expected=ANY)
    for _ in range(3):
        append(store, "noise-1")
    store.append("order-7", NewEvent("Paid", {}, tags=["order:7"]), expected=ANY)
    elsewhere = NewEvent("Sent", {}, tags=["order:7"], metadata={"correlation_id": "8"})
    store.append("order-7", elsewhere, expected=ANY)

    together = found(store, "7", near=1, tags=["by:ann", "order:7"])
    assert (together.found_by, together.tag) == ("tag", "order:7")
    assert [event.type for event in together.events] == ["Placed", "Paid"]

    near = found(store, "7", near=5)
    assert (near.found_by, near.after, near.upto, near.events) == ("near", 4, 6, ())
    assert found(store, "7").found_by == "none"


@pytest.mark.parametrize("is_indexed", [False, True])
def test_more_events_than_the_limit_are_told(store: EventStore, is_indexed: bool) -> None:
    if is_indexed:
        index_correlation(store._engine._settings)
    for _ in range(4):
        append(store, "order-1", correlates="c")
    together = found(store, "c", near=1, limit=3)
    assert (len(together.events), together.is_cut) == (3, True)
    assert not found(store, "c", near=1, limit=4).is_cut


def test_long_and_odd_values_are_found_by_the_index(store: EventStore) -> None:
    index_correlation(store._engine._settings)
    long = "é" * 3_000
    append(store, "order-1", correlates=long)
    append(store, "order-1", correlates=long + "!")
    for value in (long, long + "!"):
        assert [event.correlation for event in found(store, value).events] == [value]
    assert found(store, "é" * 255).events == ()
    assert drop_correlation_index(store._engine._settings)
    assert found(store, long).found_by == "none"


def test_the_cause_may_be_any_text(store: EventStore) -> None:
    event = NewEvent("A", {}, id=uuid4(), metadata={"causation_id": "command 7"})
    store.append("order-1", event, expected=ANY)
    assert linked(store, event.id).cause is None  # type: ignore[arg-type]
