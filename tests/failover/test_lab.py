"""The laboratory itself: the data of its servers after each operation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.failover.lab import Lab, Node, fake_clock
from tests.support.interleavings import Proxy


@pytest.fixture(scope="module")
def shared(lab: Lab) -> Node:
    """A primary for all tests of the file."""
    return lab.primary()


@pytest.fixture
def primary(shared: Node) -> Node:
    """A primary with a table of numbers: 1."""
    shared.query("DROP TABLE IF EXISTS numbers")
    shared.query("CREATE TABLE numbers (number bigint PRIMARY KEY)")
    add(shared, 1)
    return shared


def add(node: Node, number: int) -> None:
    node.query("INSERT INTO numbers VALUES (%s)", number)


def numbers(node: Node, database: str = "postgres") -> list[int]:
    with psycopg.connect(node.url_of(database)) as connection:
        rows = connection.execute("SELECT number FROM numbers ORDER BY number")
        return [number for (number,) in rows]


def test_a_standby_that_has_caught_up_is_promoted_without_loss(primary: Node) -> None:
    standby = primary.standby(slot=True)
    add(primary, 2)
    standby.catch_up()
    assert primary.query("SELECT slot_name FROM pg_replication_slots WHERE active")
    assert not standby.is_promoted
    standby.promote()
    assert numbers(standby) == numbers(primary)
    assert standby.timeline == primary.timeline + 1
    assert standby.identifier == primary.identifier
    standby.stop()


def test_what_a_standby_no_longer_receives_is_lost_and_what_it_does_not_replay_yet_is_not(
    primary: Node,
) -> None:
    deaf, slow = primary.standby(), primary.standby()
    slow.pause_replay()
    deaf.stop_receiving()
    add(primary, 2)
    slow.wait_until_received()
    assert numbers(deaf) == numbers(slow) == [1]
    deaf.promote()
    slow.promote()
    assert (numbers(deaf), numbers(slow)) == ([1], [1, 2])
    deaf.stop()
    slow.stop()


def test_a_standby_follows_the_one_that_was_promoted_and_is_promoted_in_its_turn(
    primary: Node,
) -> None:
    first, second = primary.standby(), primary.standby()
    first.catch_up()
    first.promote()
    second.follow(first)
    add(first, 2)
    second.catch_up()
    second.promote()
    add(second, 3)
    assert numbers(second) == [1, 2, 3]
    assert second.timeline == first.timeline + 1 == primary.timeline + 2
    first.stop()
    second.stop()


@pytest.mark.parametrize("recover", [True, False], ids=["recovered", "copied"])
def test_a_base_backup_is_restored_to_a_new_timeline_or_as_a_copy(
    lab: Lab, primary: Node, recover: bool
) -> None:
    backup = primary.base_backup()
    add(primary, 2)
    node = lab.restore(backup, recover=recover)
    add(node, 3)
    assert numbers(node) == [1, 3]
    assert node.identifier == primary.identifier
    assert node.timeline == primary.timeline + recover
    node.stop()


def test_a_dump_is_restored_into_another_cluster_and_into_another_database_of_the_same(
    lab: Lab, primary: Node
) -> None:
    dump = primary.dump("--table=numbers")
    other = lab.primary()
    other.load(dump)
    primary.load(dump, database="again")
    assert numbers(other) == numbers(primary, "again") == [1]
    assert other.identifier == primary.identifier  # started with the same data folder
    other.stop()


@pytest.mark.skipif(fake_clock() is None, reason="libfaketime is not installed")
def test_a_new_primary_has_a_clock_that_is_minutes_off(primary: Node) -> None:
    standby = primary.standby(clock=-300)
    standby.promote()
    off = datetime.now(UTC) - standby.value("SELECT clock_timestamp()")
    assert abs(off - timedelta(minutes=5)) < timedelta(seconds=10)
    standby.stop()


def test_an_address_leads_to_the_new_primary_and_cuts_who_is_at_the_old_one(
    primary: Node,
) -> None:
    standby = primary.standby()
    standby.catch_up()
    with Proxy(primary.url) as address, psycopg.connect(address.url) as client:
        client.execute("SELECT")
        primary.stop("immediate")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address.url)
        standby.promote()
        address.retarget(standby.url)
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT")
        with psycopg.connect(address.url) as again:
            assert again.execute("SELECT number FROM numbers").fetchall() == [(1,)]
