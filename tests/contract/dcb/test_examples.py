"""The six examples of dcb.events; tests/concurrency/dcb/test_decide.py runs them concurrently."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indelible import ANY, EventStore, NewEvent, Query
from tests.support.dcb_examples import (
    MOST_COURSES,
    TOKEN_HOLDS,
    Refused,
    capacity_changed,
    confirm_sign_up,
    course_defined,
    course_exists,
    define,
    issue_invoice,
    name_owner,
    next_invoice_number,
    order_of,
    place_order,
    price_set,
    product_prices,
    purchase,
    release_name,
    sign_up,
    sign_up_initiated,
    student_courses,
    subscribe,
    subscription_models,
    take_name,
)


def record(store: EventStore, *events: NewEvent) -> datetime:
    """Store facts that nobody had to decide on; return when they were recorded."""
    return store.append("facts-1", list(events), expected=ANY).recorded_at


def test_a_course_is_defined_once(store: EventStore) -> None:
    store.decide_with(define("c1", 10), course_exists("c1"))

    with pytest.raises(Refused, match="there already"):
        store.decide_with(define("c1", 15), course_exists("c1"))
    store.decide_with(define("c2", 15), course_exists("c2"))

    assert [event.data for event in store.read_all()] == [{"capacity": 10}, {"capacity": 15}]


def test_a_student_subscribes_to_a_course_with_a_free_place(store: EventStore) -> None:
    def subscribe_to(course: str, student: str) -> None:
        store.decide_with(subscribe(course, student), *subscription_models(course, student))

    record(store, course_defined("c1", 2), course_defined("c2", 9))

    subscribe_to("c1", "s1")
    subscribe_to("c1", "s2")
    with pytest.raises(Refused, match="full"):
        subscribe_to("c1", "s3")
    subscribe_to("c2", "s3")
    with pytest.raises(Refused, match="s3 has subscribed to c2 already"):
        subscribe_to("c2", "s3")
    with pytest.raises(Refused, match="no course"):
        subscribe_to("c3", "s1")
    record(store, capacity_changed("c1", 3))
    subscribe_to("c1", "s3")

    with store.decide(student_courses("s3")) as decision:
        assert decision.states == ({"c1", "c2"},)


def test_a_student_has_no_more_than_so_many_courses(store: EventStore) -> None:
    courses = [f"c{number}" for number in range(MOST_COURSES + 1)]
    record(store, *(course_defined(course, 9) for course in courses))
    for course in courses[:-1]:
        store.decide_with(subscribe(course, "s1"), *subscription_models(course, "s1"))

    with pytest.raises(Refused, match="courses already"):
        store.decide_with(subscribe(courses[-1], "s1"), *subscription_models(courses[-1], "s1"))


def test_a_name_is_taken_once_and_free_again_when_released(store: EventStore) -> None:
    store.decide_with(take_name("ann", "u1"), name_owner("ann"))

    with pytest.raises(Refused, match="belongs to u1"):
        store.decide_with(take_name("ann", "u2"), name_owner("ann"))
    store.decide_with(take_name("bob", "u2"), name_owner("bob"))
    with pytest.raises(Refused, match="not u2's"):
        store.decide_with(release_name("ann", "u2"), name_owner("ann"))
    store.decide_with(release_name("ann", "u1"), name_owner("ann"))
    store.decide_with(take_name("ann", "u2"), name_owner("ann"))

    with store.decide(name_owner("ann"), name_owner("bob"), name_owner("eve")) as decision:
        assert decision.states == ("u2", "u2", None)


def test_invoices_are_numbered_without_a_gap(store: EventStore) -> None:
    for _ in range(3):
        store.decide_with(issue_invoice, next_invoice_number())

    assert [event.data["number"] for event in store.read_all()] == [1, 2, 3]


def test_a_token_confirms_once(store: EventStore) -> None:
    now = record(store, sign_up_initiated("a@b.example", "t1"))

    with pytest.raises(Refused, match="no such sign-up"):
        store.decide_with(confirm_sign_up("a@b.example", "t2", now), sign_up("a@b.example", "t2"))
    with pytest.raises(Refused, match="no such sign-up"):
        store.decide_with(confirm_sign_up("x@b.example", "t1", now), sign_up("x@b.example", "t1"))
    store.decide_with(confirm_sign_up("a@b.example", "t1", now), sign_up("a@b.example", "t1"))
    with pytest.raises(Refused, match="used already"):
        store.decide_with(confirm_sign_up("a@b.example", "t1", now), sign_up("a@b.example", "t1"))


def test_a_token_expires(store: EventStore) -> None:
    initiated_at = record(store, sign_up_initiated("a@b.example", "t1"))
    last_moment = initiated_at + TOKEN_HOLDS

    with pytest.raises(Refused, match="expired"):
        store.decide_with(
            confirm_sign_up("a@b.example", "t1", last_moment + timedelta(microseconds=1)),
            sign_up("a@b.example", "t1"),
        )
    store.decide_with(
        confirm_sign_up("a@b.example", "t1", last_moment), sign_up("a@b.example", "t1")
    )


def test_a_price_that_was_shown_holds_for_a_while(store: EventStore) -> None:
    record(store, price_set("p1", 100), price_set("p2", 300))
    changed_at = record(store, price_set("p1", 120))
    in_time, too_late = changed_at + timedelta(minutes=10), changed_at + timedelta(minutes=11)

    def buy(shown: int, now: datetime) -> None:
        store.decide_with(purchase("p1", shown, now), product_prices("p1"))

    buy(100, in_time)
    buy(120, in_time)
    buy(120, too_late)
    for shown, now in [(100, too_late), (300, in_time), (110, in_time)]:
        with pytest.raises(Refused, match="any more"):
            buy(shown, now)
    with pytest.raises(Refused, match="any more"):
        store.decide_with(purchase("p3", 100, datetime.now(UTC)), product_prices("p3"))

    bought = store.read_all(Query(types="ProductPurchased"))
    assert [event.data["price"] for event in bought] == [100, 120, 120]


def test_a_request_that_comes_twice_is_taken_once(store: EventStore) -> None:
    store.decide_with(place_order("o1", "r1"), order_of("r1"))

    with pytest.raises(Refused, match="as order o1"):
        store.decide_with(place_order("o2", "r1"), order_of("r1"))
    store.decide_with(place_order("o2", "r2"), order_of("r2"))

    assert [event.data["order"] for event in store.read_all()] == ["o1", "o2"]
