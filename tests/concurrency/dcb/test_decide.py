"""Concurrent decisions: the rule of each example of dcb.events with 16 threads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Barrier

from indelible import ANY, AsyncEventStore, EventStore, Query
from tests.support.dcb_examples import (
    MOST_COURSES,
    Refused,
    capacity_changed,
    confirm_sign_up,
    course_capacity,
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
    subscribe,
    subscription_models,
    take_name,
)

THREADS = 16
ENOUGH = 1_000
"""Attempts: among 16 one always goes on, so nobody needs nearly as many."""


def at_once(work: Callable[[int, Random], object], *, times: int) -> Counter[str]:
    """Do something on 16 threads that begin together; count how often it was done or refused."""
    together = Barrier(THREADS, timeout=30)

    def run(number: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        random = Random(number)
        together.wait()
        for _ in range(times):
            try:
                work(number, random)
                outcomes["done"] += 1
            except Refused:
                outcomes["refused"] += 1
        return outcomes

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(run, range(THREADS)), Counter())


def test_no_course_is_defined_twice(sync_store: EventStore) -> None:
    def work(number: int, random: Random) -> None:
        course = f"c{random.randrange(4)}"
        sync_store.decide_with(define(course, 9), course_exists(course), attempts=ENOUGH)

    outcomes = at_once(work, times=4)

    defined = [event.tags for event in sync_store.read_all()]
    assert len(defined) == len(set(defined)) == outcomes["done"] == 4


def test_no_course_is_overbooked_and_no_student_has_too_many(sync_store: EventStore) -> None:
    courses = [f"c{number}" for number in range(7)]
    sync_store.append("facts-1", [course_defined(course, 3) for course in courses], expected=ANY)

    def work(number: int, random: Random) -> None:
        course, student = random.choice(courses), f"s{random.randrange(6)}"
        if random.random() < 0.05:
            sync_store.decide_with(
                lambda capacity: capacity_changed(course, capacity + 1),
                course_capacity(course),
                attempts=ENOUGH,
            )
            return
        sync_store.decide_with(
            subscribe(course, student), *subscription_models(course, student), attempts=ENOUGH
        )

    outcomes = at_once(work, times=8)

    capacity: dict[str, int] = {}
    taken: Counter[str] = Counter()
    of_student: Counter[str] = Counter()
    pairs = set()
    for event in sync_store.read_all():
        if event.type != "StudentSubscribed":
            (tag,) = event.tags
            assert event.data["capacity"] - capacity.get(tag, 2) == 1, "a change was lost"
            capacity[tag] = event.data["capacity"]
            continue
        course, student = event.tags
        taken[course] += 1
        of_student[student] += 1
        assert taken[course] <= capacity[course]
        assert of_student[student] <= MOST_COURSES
        assert event.tags not in pairs
        pairs.add(event.tags)
    assert len(pairs) > THREADS
    assert outcomes["refused"] > 0


def test_no_name_belongs_to_two(sync_store: EventStore) -> None:
    names = ["ann", "bob", "eve"]

    def work(number: int, random: Random) -> None:
        name, user = random.choice(names), f"u{number}"
        decide = take_name if random.random() < 0.6 else release_name
        sync_store.decide_with(decide(name, user), name_owner(name), attempts=ENOUGH)

    outcomes = at_once(work, times=12)

    owned: set[str] = set()
    events = list(sync_store.read_all())
    for event in events:
        name = event.data["name"]
        assert (name in owned) == (event.type == "NameReleased"), event.position
        owned ^= {name}
    assert outcomes["done"] == len(events)
    assert Counter(event.type for event in events)["NameTaken"] >= len(names)


def test_no_invoice_number_is_left_out_or_given_twice(sync_store: EventStore) -> None:
    at_once(
        lambda number, random: (
            sync_store.decide_with(issue_invoice, next_invoice_number(), attempts=ENOUGH) and None
        ),
        times=5,
    )

    issued = [event.data["number"] for event in sync_store.read_all()]
    assert issued == list(range(1, THREADS * 5 + 1))


def test_no_invoice_number_is_left_out_or_given_twice_by_tasks(url: str, schema: str) -> None:
    async def issue() -> list[int]:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=16) as store:

            async def work() -> None:
                for _ in range(3):
                    await store.decide_with(issue_invoice, next_invoice_number(), attempts=ENOUGH)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(THREADS):
                    tasks.create_task(work())
            return [event.data["number"] async for event in store.read_all()]

    assert asyncio.run(issue()) == list(range(1, THREADS * 3 + 1))


def test_no_token_confirms_twice(sync_store: EventStore) -> None:
    tokens = [f"t{number}" for number in range(12)]
    now = sync_store.append(
        "facts-1", [sign_up_initiated("a@b.example", token) for token in tokens], expected=ANY
    ).recorded_at
    place = [0] * THREADS

    def work(number: int, random: Random) -> None:
        token = tokens[place[number]]
        place[number] += 1
        sync_store.decide_with(
            confirm_sign_up("a@b.example", token, now),
            sign_up("a@b.example", token),
            attempts=ENOUGH,
        )

    outcomes = at_once(work, times=len(tokens))

    confirmed = [event.tags for event in sync_store.read_all(Query(types="SignUpConfirmed"))]
    assert len(confirmed) == len(set(confirmed)) == outcomes["done"] == len(tokens)


def test_nobody_buys_at_a_price_that_does_not_hold(sync_store: EventStore) -> None:
    """Without a grace period, each purchase has the price that holds where it stands in the log."""
    products = ["p1", "p2"]
    long_after = datetime(9999, 1, 1, tzinfo=UTC)
    for product in products:
        sync_store.append("facts-1", price_set(product, 0), expected=ANY)

    def work(number: int, random: Random) -> None:
        product = random.choice(products)
        if number % 4 == 0:
            sync_store.append("prices-1", price_set(product, random.randrange(3)), expected=ANY)
            return
        sync_store.decide_with(
            purchase(product, random.randrange(3), long_after, grace=timedelta(0)),
            product_prices(product),
            attempts=ENOUGH,
        )

    outcomes = at_once(work, times=12)

    current: dict[str, int] = {}
    bought = 0
    for event in sync_store.read_all():
        (tag,) = event.tags
        if event.type == "PriceSet":
            current[tag] = event.data["price"]
        else:
            bought += 1
            assert event.data["price"] == current[tag], event.position
    assert bought > 0
    assert outcomes["refused"] > 0


def test_no_request_is_taken_twice(sync_store: EventStore) -> None:
    place = [0] * THREADS

    def work(number: int, random: Random) -> None:
        place[number] += 1
        token = f"r{place[number]}"
        sync_store.decide_with(
            place_order(f"o{number}-{token}", token), order_of(token), attempts=ENOUGH
        )

    outcomes = at_once(work, times=12)

    requests = [event.tags[1] for event in sync_store.read_all()]
    assert len(requests) == len(set(requests)) == outcomes["done"] == 12
