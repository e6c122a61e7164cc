"""The food delivery example: its rules, and the whole of it on a real store."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from indelible import EventStore, Query, WrongExpectedVersion
from indelible.examples.food_delivery import contest, delivery, main, ordering
from indelible.examples.food_delivery.generator import read_orders, write_orders


def prepared() -> delivery.Delivery:
    made = delivery.Delivery(uuid4())
    made.create(uuid4(), "12 Some Street")
    made.assign("Kai")
    made.prepare("Bella Napoli")
    return made


def test_nobody_cancels_a_delivered_delivery() -> None:
    delivered = prepared()
    delivered.pick_up()
    delivered.deliver("Ann")
    happened = list(delivered.changes)

    with pytest.raises(delivery.DeliveryRule, match="nobody cancels a delivered delivery"):
        delivered.cancel("too late")
    assert delivered.changes == happened


def test_what_is_not_prepared_is_not_picked_up() -> None:
    assigned = delivery.Delivery(uuid4())
    assigned.create(uuid4(), "12 Some Street")
    assigned.assign("Kai")

    with pytest.raises(delivery.DeliveryRule, match="not prepared"):
        assigned.pick_up()


def test_nobody_picks_up_what_is_canceled() -> None:
    canceled = prepared()
    canceled.cancel("no driver")

    with pytest.raises(delivery.DeliveryRule, match="canceled cannot be picked up"):
        canceled.pick_up()


def test_nobody_tips_for_a_canceled_order() -> None:
    order = ordering.Order(uuid4())
    items = (ordering.Item("Calzone", 2, Decimal("10.90")),)
    order.create("Ann", "12 Some Street", "Bella Napoli", items, datetime.now(UTC))
    assert order.total == Decimal("21.80")
    order.cancel("changed my mind")

    with pytest.raises(ordering.OrderRule, match="nobody tips"):
        order.tip_courier(Decimal(1))


def test_a_seed_makes_the_same_orders_every_time(tmp_path: Path) -> None:
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        write_orders(tmp_path / name, orders=50, seed=seed)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()
    assert len(list(read_orders(tmp_path / "a"))) == 50


def test_a_delivery_is_rebuilt_from_its_events(url: str, schema: str) -> None:
    with EventStore.connect(url, schema=schema, events=delivery.DeliveryEvent) as store:
        made = prepared()
        delivery.save(store, made)
        loaded = delivery.load(store, made.delivery_id)
        assert (loaded.version, loaded.state, loaded.courier) == (2, delivery.State.OPEN, "Kai")

        stale = delivery.load(store, made.delivery_id)
        loaded.pick_up()
        delivery.save(store, loaded)
        stale.cancel("no driver")
        with pytest.raises(WrongExpectedVersion):
            delivery.save(store, stale)


def test_of_two_threads_one_is_refused_and_decides_anew(url: str, schema: str) -> None:
    with EventStore.connect(url, schema=schema, events=delivery.DeliveryEvent) as store:
        for _ in range(5):
            made = prepared()
            delivery.save(store, made)

            assert contest.cancel_and_pick_up(store, made.delivery_id, "no driver") == 1

            assert delivery.load(store, made.delivery_id).state is delivery.State.CANCELED


def test_the_whole_of_it_runs_twice(
    server_url: str, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in (1, 2):
        main(orders=60, seed=3, workers=4, url=server_url, schema=schema)
        told = capsys.readouterr().out
        assert "all as told" in told
        assert f"delivery │ {60 * run:>7,}" in told
        assert "Delivery created" in told
        assert "events behind          │        0 │" in told
    with EventStore.connect(server_url, schema=schema) as store:
        assert {channel.channel for channel in store.stats().channels} == {"delivery", "ordering"}
        assert store.stream("delivery-nowhere") is None
        info = store.group("delivery").info()
        assert (info.lag_events, info.parked, info.workers) == (0, 0, ())
        booked = [
            event.data["order_id"] for event in store.read_all(Query(types="DeliveryCreated"))
        ]
        placed = [event.data["order_id"] for event in store.read_all(Query(types="OrderCreated"))]
        assert sorted(booked) == sorted(placed)
