"""The food delivery example: its rules, and a full run on a real store."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from indelible import NO_STREAM, EventStore, InvalidInput, Query
from indelible.examples.food_delivery import contest, delivery, ordering, pricing
from indelible.examples.food_delivery.generator import read_orders, write_orders
from indelible.examples.food_delivery.program import fill, main


def prepared() -> delivery.Delivery:
    made = delivery.Delivery()
    made.create(uuid4(), uuid4(), "12 Some Street")
    made.assign("Kai")
    made.prepare("Bella Napoli")
    return made


def test_nobody_cancels_a_delivered_delivery() -> None:
    delivered = prepared()
    delivered.pick_up()
    delivered.deliver("Ann")
    happened = delivered.changes

    with pytest.raises(delivery.DeliveryRule, match="a completed delivery cannot be canceled"):
        delivered.cancel("too late")
    assert delivered.changes == happened


def test_what_is_not_prepared_is_not_picked_up() -> None:
    assigned = delivery.Delivery()
    assigned.create(uuid4(), uuid4(), "12 Some Street")
    assigned.assign("Kai")

    with pytest.raises(delivery.DeliveryRule, match="not prepared"):
        assigned.pick_up()


def test_nobody_picks_up_what_is_canceled() -> None:
    canceled = prepared()
    canceled.cancel("no driver")

    with pytest.raises(delivery.DeliveryRule, match="canceled cannot be picked up"):
        canceled.pick_up()


def test_nobody_tips_for_a_canceled_order() -> None:
    items = (ordering.Item("Calzone", 2, Decimal("10.90")),)
    create = ordering.CreateOrder(
        uuid4(), "Ann", "12 Some Street", "Bella Napoli", items, datetime.now(UTC)
    )
    order = ordering.Order()
    for command in (create, ordering.CancelOrder("changed my mind")):
        for event in ordering.decide(command, order):
            order = ordering.evolve(order, event)
    assert (order.total, order.is_canceled) == (Decimal("21.80"), True)

    with pytest.raises(ordering.OrderRule, match="cannot be tipped"):
        ordering.decide(ordering.TipCourier(Decimal(1)), order)
    with pytest.raises(ordering.OrderRule, match="already exists"):
        ordering.decide(create, order)


def test_a_seed_makes_the_same_orders_every_time(tmp_path: Path) -> None:
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        write_orders(tmp_path / name, orders=50, seed=seed)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()
    assert len(list(read_orders(tmp_path / "a"))) == 50


def test_of_two_threads_one_is_refused_and_decides_anew(url: str, schema: str) -> None:
    with EventStore.connect(url, schema=schema, events=delivery.DeliveryEvent) as store:
        for _ in range(5):
            delivery_id = uuid4()
            stream = delivery.stream_of(delivery_id)
            store.append(stream, prepared().changes, expected=NO_STREAM)

            assert contest.cancel_and_pick_up(store, delivery_id, "no driver") == 1

            assert store.load(stream, delivery.Delivery).state is delivery.State.CANCELED


def test_a_discount_is_known_ahead_and_holds_for_its_day(url: str, schema: str) -> None:
    with EventStore.connect(
        url, schema=schema, events=pricing.PriceEvent, channel=pricing.CHANNEL
    ) as store:
        with store.writing(pricing.Dish, "dish-1") as dish:
            dish.set_price(Decimal(10))
        now = next(store.read("dish-1")).recorded_at
        friday = pricing.black_friday(now)
        with store.writing(pricing.Dish, "dish-1") as dish:
            dish.announce(pricing.DiscountSet("Black Friday", 25), friday)
        with store.writing(pricing.Dish, "dish-1") as dish:
            dish.set_price(Decimal(12))

        def price(moment: datetime, known: datetime | None = None) -> Decimal | None:
            return pricing.price_at(store, "dish-1", moment, known)

        assert price(now) == 10
        assert price(friday - timedelta(microseconds=1)) == 12
        assert price(friday) == 9
        assert price(friday + timedelta(days=1)) == 12
        assert price(friday, known=now) == 10
        assert price(now - timedelta(days=1)) is None


def test_black_friday_is_the_day_after_the_fourth_thursday_of_november() -> None:
    for day in ((2024, 11, 29), (2025, 11, 28), (2026, 11, 27), (2028, 11, 24)):
        friday = datetime(*day, tzinfo=UTC)
        assert pricing.black_friday(friday - timedelta(days=1)) == friday
        assert pricing.black_friday(friday).year == friday.year + 1


def test_of_a_time_that_was_told_and_one_that_corrects_it_the_later_recorded_counts(
    url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, events=delivery.DeliveryEvent) as store:
        delivery_id = uuid4()
        stream = delivery.stream_of(delivery_id)
        store.append(stream, prepared().changes, expected=NO_STREAM)
        with pytest.raises(delivery.DeliveryRule, match="only a completed delivery"):
            with store.writing(delivery.Delivery, stream) as shipment:
                shipment.pick_up()
                shipment.correct_time(datetime.now(UTC), "x")
        assert delivery.delivered_at(store, delivery_id) is None
        with store.writing(delivery.Delivery, stream) as shipment:
            shipment.pick_up()
            shipment.deliver("Ann")
        told = delivery.delivered_at(store, delivery_id)
        assert told is not None
        with store.writing(delivery.Delivery, stream) as shipment:
            shipment.correct_time(told - timedelta(minutes=12), "offline")

        assert delivery.delivered_at(store, delivery_id) == told - timedelta(minutes=12)
        assert delivery.delivered_at(store, delivery_id, known=told) == told


def test_the_whole_of_it_runs_twice(
    server_url: str, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in (1, 2):
        main(orders=60, seed=3, workers=4, url=server_url, schema=schema)
        told = capsys.readouterr().out
        assert max(map(len, told.partition("To explore")[0].splitlines())) <= 80
        assert "Everything matches" in told
        assert re.search(rf"│ delivery +│ {60 * run:>7,}", told)
        assert "Delivery created" in told
        before, ahead, corrected = re.findall(
            r"│ (?:before the discount|after it was|after the time)[^│]*│([^\n]*)│", told
        )
        assert before.split()[:5:2] == ["10.90", "10.90", "10.90"]
        assert ahead.split()[:5:2] == corrected.split()[:5:2] == ["10.90", "8.72", "10.90"]
        assert before.split()[-1] == ahead.split()[-1] != corrected.split()[-1]
        assert re.search(r"│ Events still to process +│ +0 │", told)
        assert re.search(r"inline │ open orders +│ \d", told)
        assert re.search(r"async  │ most pick-ups by courier +│ \w+ \d+, ", told)
        assert "1 Margherita, 1 Tiramisu" in told
        assert "2 Margherita" in told
        assert f"  indelible groups list --schema {schema} --url " in told
    with EventStore.connect(server_url, schema=schema) as store:
        assert {channel.channel for channel in store.stats().channels} == {
            "delivery",
            "ordering",
            "pricing",
        }
        assert store.stream("delivery-nowhere") is None
        info = store.group("delivery").info()
        assert (info.lag_events, info.parked, info.workers) == (0, 0, ())
        booked = [
            event.data["order_id"] for event in store.read_all(Query(types="DeliveryCreated"))
        ]
        placed = [event.data["order_id"] for event in store.read_all(Query(types="OrderCreated"))]
        assert sorted(booked) == sorted(placed)


def test_an_empty_store_is_filled_once(url: str, schema: str) -> None:
    stored = fill(url, schema, orders=5)
    with EventStore.connect(url, schema=schema) as store:
        assert store.stats().events == stored
        assert {channel.channel for channel in store.stats().channels} >= {"delivery", "ordering"}
    with pytest.raises(InvalidInput, match="fills an empty store only"):
        fill(url, schema, orders=5)
