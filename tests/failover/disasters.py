"""Disasters that can happen to the database of a store.

Each disaster is prepared first. If it loses events, it loses those that are appended between the
preparation and the strike. The strike returns the server that has the store afterwards; meanwhile
clients cannot reach any server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.failover.lab import Lab, Node
from tests.failover.readers import SCHEMA

Strike = Callable[[], Node]


@dataclass(frozen=True)
class Disaster:
    """One of them.

    Attributes:
        name: what happens.
        prepare: prepares it for a primary.
        loses: whether what is appended since then is lost.
    """

    name: str
    prepare: Callable[[Lab, Node], Strike]
    loses: bool

    def __str__(self) -> str:
        return self.name


def _promote(lab: Lab, primary: Node, *, loses: bool, slot: bool = False, clock: int = 0) -> Strike:
    standby = primary.standby(slot=slot, clock=clock)
    standby.catch_up()
    if loses:
        standby.stop_receiving()

    def strike() -> Node:
        if not loses:
            standby.catch_up()
        primary.stop("immediate")
        standby.promote()
        return standby

    return strike


def _promote_paused(lab: Lab, primary: Node) -> Strike:
    standby = primary.standby()
    standby.catch_up()
    standby.pause_replay()

    def strike() -> Node:
        standby.wait_until_received()
        primary.stop("immediate")
        standby.promote()
        return standby

    return strike


def _restore(lab: Lab, primary: Node, *, recover: bool) -> Strike:
    backup = primary.base_backup()

    def strike() -> Node:
        primary.stop("immediate")
        return lab.restore(backup, recover=recover)

    return strike


def _dump_to_another_cluster(lab: Lab, primary: Node) -> Strike:
    dump = primary.dump()

    def strike() -> Node:
        primary.stop("immediate")
        other = lab.start(Node(lab))
        other.load(dump)
        return other

    return strike


def _dump_to_another_database(lab: Lab, primary: Node) -> Strike:
    dump = primary.dump()

    def strike() -> Node:
        primary.load(dump, database="restored")
        primary.exchange("restored")
        return primary

    return strike


def _dump_to_the_same_database(lab: Lab, primary: Node) -> Strike:
    dump = primary.dump()

    def strike() -> Node:
        primary.query(
            f"SET client_min_messages = warning; DROP SCHEMA {SCHEMA}, public CASCADE;"
            " CREATE SCHEMA public"
        )
        primary.load(dump)
        return primary

    return strike


def _copy_logically(lab: Lab, primary: Node) -> Strike:
    """Logical replication copies no values of sequences, so the copy's stands at the beginning."""
    copy = lab.start(Node(lab))
    copy.load(primary.dump("--schema-only"))
    primary.query("CREATE PUBLICATION all_of_it FOR ALL TABLES")
    copy.query(f"CREATE SUBSCRIPTION copying CONNECTION '{primary.url}' PUBLICATION all_of_it")

    def strike() -> Node:
        copy.wait_until_subscribed()
        primary.wait_for_subscriber("copying")
        copy.query("DROP SUBSCRIPTION copying")
        primary.stop("immediate")
        return copy

    return strike


CAUGHT_UP = Disaster(
    "a standby that has caught up is promoted", partial(_promote, loses=False), False
)
LAGGING = Disaster("a standby that lags is promoted", partial(_promote, loses=True), True)
FEW_LOST = Disaster("a standby that lags a little is promoted", LAGGING.prepare, True)
PAUSED = Disaster("a standby that has not replayed all is promoted", _promote_paused, False)
SLOT = Disaster(
    "a standby with a slot is promoted", partial(_promote, loses=False, slot=True), False
)
RECOVERED = Disaster("a base backup is recovered", partial(_restore, recover=True), True)
COPIED = Disaster("a data folder is copied back", partial(_restore, recover=False), True)
ANOTHER_CLUSTER = Disaster(
    "a dump is restored into another cluster", _dump_to_another_cluster, True
)
ANOTHER_DATABASE = Disaster(
    "a dump is restored into another database", _dump_to_another_database, True
)
SAME_DATABASE = Disaster(
    "a dump is restored into the same database", _dump_to_the_same_database, True
)
LOGICAL_COPY = Disaster("a logical copy takes over", _copy_logically, False)


def clock(minutes: int, *, loses: bool) -> Disaster:
    """The clock of a new primary is minutes ahead; below 0: behind."""
    where = "ahead" if minutes > 0 else "behind"
    what = "that lags" if loses else "that has caught up"
    return Disaster(
        f"a standby {what} and whose clock is {abs(minutes)} minutes {where} is promoted",
        partial(_promote, loses=loses, clock=minutes * 60),
        loses,
    )
