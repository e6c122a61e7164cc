"""The course of one or more disasters, while readers of every kind run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from typing import Any, Self
from uuid import UUID

import pytest

from indelible import ANY, AppendCondition, Checkpoint, EventStore, IndelibleError, NewEvent, Query
from tests.failover.disasters import Disaster
from tests.failover.lab import Lab, Node
from tests.failover.readers import (
    SCHEMA,
    TABLES,
    AsyncJournal,
    AsyncSubscriber,
    AsyncWorker,
    BatchSubscriber,
    Counts,
    Entry,
    Happened,
    InlineCounts,
    Journal,
    Subscriber,
    Worker,
    connect,
)
from tests.support.daemons import Running
from tests.support.interleavings import Proxy

_PATIENCE = 6.0
"""Seconds that readers have for all that came."""

Log = list[Entry]


@dataclass
class Kept:
    """What a process kept, to go on with after a disaster.

    Attributes:
        log: the log when it was kept, all of which the process had read.
        checkpoints: as texts, of a subscription and of one to what is due.
        conditions: what decisions were made on, by tag: of "rule:1" there is more at each step, of
            "quiet:1" never.
    """

    log: Log
    checkpoints: dict[str, str]
    conditions: dict[str, AppendCondition]


@dataclass
class Tried:
    """What came of something kept that was used again.

    Attributes:
        what: how it was used.
        kept: what was kept.
        log: the log when it was used.
        brought: the ids that it brought.
        failure: the error that ended it.
    """

    what: str
    kept: Kept
    log: Log
    brought: list[UUID] = field(default_factory=list)
    failure: BaseException | None = None


@dataclass
class Reading:
    """A reading of the log up to the head that was begun before a disaster, and ended after it.

    Attributes:
        events: it.
        brought: the ids that it brought.
        failure: the error that ended it.
    """

    events: Any
    brought: list[UUID]
    failure: BaseException | None = None


class Course:
    """Runs disasters one after the other, and notes what all have seen.

    Args:
        lab: where.
        disasters: them.
        at_risk: how many events are appended before each, when it was prepared: more than 32, and
            new events get the positions of lost ones after a promotion, too (the WAL is ahead of a
            sequence by as many).

    Attributes:
        readers: by name.
        logs: the log before each disaster, and at last the one at the end.
        tried: what came of what was kept.
        readings: what was being read.
        acknowledged: the ids of which a writer was told, since the last disaster, that they are
            stored.
        refused: the errors that it got instead.
        rows: the ids in the tables that readers write to.
        checkpoints: of groups and projections, at the end.
        differing: how many documents of a projection are not what the log says.
    """

    def __init__(self, lab: Lab, disasters: Sequence[Disaster], *, at_risk: int = 45) -> None:
        self.disasters = disasters
        self._at_risk = at_risk
        self.readers: dict[str, Any] = {}
        self.logs: list[Log] = []
        self.tried: list[Tried] = []
        self.readings: list[Reading] = []
        self.acknowledged: list[UUID] = []
        self.refused: list[BaseException] = []
        self._kept: list[Kept] = []
        self._numbers = count()
        self._lab = lab

    @property
    def loses(self) -> bool:
        """Whether anything was lost."""
        return any(disaster.loses for disaster in self.disasters)

    @property
    def final(self) -> Log:
        """The log at the end."""
        return self.logs[-1]

    def run(self) -> Self:
        """Let it happen."""
        with ExitStack() as running, pytest.MonkeyPatch.context() as patched:
            # Small pages, so that disasters interrupt readers in the middle.
            patched.setattr("indelible.streams.paging._FIRST_PAGE", 5)
            patched.setattr("indelible.streams.paging._LARGEST_PAGE", 5)
            self._begin(running)
            for disaster in self.disasters:
                self._suffer(disaster)
            self._end()
        return self

    def _begin(self, running: ExitStack) -> None:
        self._node = self._lab.primary(wal_level="logical")
        for table in TABLES:
            self._node.query(f"CREATE TABLE {table} (id uuid)")
        self._address = running.enter_context(Proxy(self._node.url))
        url = self._address.url
        self._store = running.enter_context(connect(url, inline=[InlineCounts]))
        for name in ("mails", "async mails", "transactions", "later"):
            self._store.group(name).create(lease=2)
        self.readers = {
            "subscription": Subscriber(self._store),
            "async subscription": AsyncSubscriber(url),
            "subscription that stands still": Subscriber(self._store, holds_after=6),
            "subscription with events in hand": Subscriber(self._store, holds_after=13),
            "subscription to a channel": BatchSubscriber(self._store, channel="a"),
            "subscription to what is due": Subscriber(self._store, due=True),
            "mails": Worker(self._store, "mails"),
            "async mails": AsyncWorker(url, "async mails"),
            "transactions": Worker(self._store, "transactions", in_transaction=True),
            "later": Worker(self._store, "later"),
        }
        running.callback(self._stop_readers)
        for reader in self.readers.values():
            reader.start()
        self._daemons = [
            Running("sync", url, SCHEMA, [Counts, Journal], lease=2, events=[Happened]),
            Running("async", url, SCHEMA, [AsyncJournal], lease=2, events=[Happened]),
        ]
        for daemon in self._daemons:
            running.callback(daemon.stop)
        self._append(12, "rule:1", "quiet:1")
        self._wait_for_readers()
        self._keep()

    def _suffer(self, disaster: Disaster) -> None:
        strike = disaster.prepare(self._lab, self._node)
        self._append(self._at_risk, "rule:1")
        self._wait_for_readers()
        self._keep()
        for events in (7, 14):  # events that remain, and events that may be lost
            reading = self._store.read_all()
            brought = [event.id for event in islice(reading, events)]
            self.readings.append(Reading(reading, brought))
        self.readers["later"].stop()
        self.logs.append(log(self._node))
        self._address.refuse()
        self._node = strike()
        self._address.retarget(self._node.url)
        self.acknowledged.clear()
        self._append(3)  # after a loss the log is shorter than before
        self._try_all()
        self._append(self._at_risk + 5, "rule:1")  # and now it is longer again
        self._try_all()

    def _end(self) -> None:
        for reader in self.readers.values():
            reader.go_on()
        later = Worker(self._store, "later").start()
        self._wait_for_readers()
        self.readers["later again"] = later
        for reading in self.readings:
            try:
                reading.brought.extend(event.id for event in reading.events)
            except IndelibleError as error:
                reading.failure = error
        self.logs.append(log(self._node))
        self.rows = {table: self._ids(table) for table in TABLES}
        self.checkpoints = {
            **{info.name: info.checkpoint for info in self._store.groups()},
            **{info.name: info.checkpoint for info in self._store.projections()},
        }
        self.differing = {
            projection.name: self._store.verify(projection).differing
            for projection in (Counts, InlineCounts)
        }

    # The log

    def _append(self, number: int, *tags: str) -> None:
        """Append so many events to three streams in turn, those of the first with the tags."""
        size = max(number // 6, 1)
        for first in range(0, number, size):
            stream = ("a-1", "b-1", "a-2")[first // size % 3]
            events = [
                NewEvent("Happened", {"number": next(self._numbers)}, tags=() if first else tags)
                for _ in range(min(size, number - first))
            ]
            try:
                self._store.append(stream, events, expected=ANY)
            except IndelibleError as error:
                self.refused.append(error)
            else:
                self.acknowledged.extend(event.id for event in events)

    def _ids(self, table: str) -> list[UUID]:
        return [id_ for (id_,) in self._node.query(f"SELECT id FROM {table}")]

    # The readers

    def _wait_for_readers(self) -> None:
        """Wait until all are done, or have failed, or their time is over."""
        entries = log(self._node)
        last, ids = entries[-1].position, {entry.id for entry in entries}

        def are_done() -> bool:
            return (
                all(reader.has_seen(entries) for reader in self.readers.values())
                and all(info.checkpoint >= last for info in self._store.groups())
                and all(
                    info.checkpoint >= last
                    for info in self._store.projections()
                    if info.name != InlineCounts.name
                )
                and all(ids <= set(self._ids(table)) for table in TABLES)
            )

        deadline = time.monotonic() + _PATIENCE
        while not are_done() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _stop_readers(self) -> None:
        for reader in self.readers.values():
            reader.stop()

    # Stored checkpoints

    def _keep(self) -> None:
        entries = log(self._node)
        checkpoints = {}
        for name in ("subscription", "subscription to what is due"):
            due = name == "subscription to what is due"
            with self._store.subscribe(deliver_when_valid=due) as subscription:
                alarm = threading.Timer(20, subscription.stop)
                alarm.start()
                assert len(list(islice(subscription, len(entries)))) == len(entries)
                alarm.cancel()
                checkpoints[name] = str(subscription.checkpoint)
        conditions = {}
        for tag in ("rule:1", "quiet:1"):
            query = Query(tags=tag)
            conditions[tag] = AppendCondition(query, after=self._store.read_matching(query).marker)
        self._kept.append(Kept(entries, checkpoints, conditions))

    def _try_all(self) -> None:
        with connect(self._address.url, inline=[InlineCounts]) as store:
            for kept in self._kept:
                for name, text in kept.checkpoints.items():
                    self._try(name, kept, partial(_resume, store, text, name))
                self._try("as of", kept, partial(_read_as_of, store, kept))
                for tag, condition in kept.conditions.items():
                    self._try(tag, kept, partial(self._decide, condition))

    def _try(self, what: str, kept: Kept, use: Callable[[Tried], None]) -> None:
        tried = Tried(what, kept, log(self._node))
        try:
            use(tried)
        except IndelibleError as error:
            tried.failure = error
        self.tried.append(tried)

    def _decide(self, condition: AppendCondition, tried: Tried) -> None:
        event = NewEvent("Happened", {"number": next(self._numbers)})
        self._store.append("b-2", event, expected=ANY, condition=condition)
        tried.brought.append(event.id)


def log(node: Node) -> Log:
    """The log as the database has it."""
    rows = node.query(
        "SELECT e.position, e.id, s.channel, e.tags"
        f" FROM {SCHEMA}.events e JOIN {SCHEMA}.streams s ON s.id = e.stream_id"
        " ORDER BY e.position"
    )
    return [
        Entry(position, id_, channel, tuple(tags or ())) for position, id_, channel, tags in rows
    ]


def _resume(store: EventStore, checkpoint: str, name: str, tried: Tried) -> None:
    """Read on from a checkpoint until all is there that is to come."""
    missing = {entry.id for entry in tried.log} - {entry.id for entry in tried.kept.log}
    due = name == "subscription to what is due"
    with store.subscribe(
        after=Checkpoint.parse(checkpoint), deliver_when_valid=due
    ) as subscription:
        alarm = threading.Timer(3, subscription.stop)
        alarm.start()
        while missing and (event := next(subscription, None)):
            tried.brought.append(event.id)
            missing.discard(event.id)
        alarm.cancel()


def _read_as_of(store: EventStore, kept: Kept, tried: Tried) -> None:
    checkpoint = Checkpoint.parse(kept.checkpoints["subscription"])
    tried.brought.extend(event.id for event in store.read_all(as_of=checkpoint))
