"""Compare random operations on the store with a model in plain Python."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from indelible import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    DuplicateEvent,
    EventStore,
    IndelibleError,
    NewEvent,
    Query,
    StreamAppend,
    WrongExpectedVersion,
)
from indelible.errors import ChannelMismatch
from indelible.events import ExpectedVersion
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings

STREAMS = st.sampled_from(["a-1", "a-2", "b-1", "c"])
EXPECTED = st.one_of(
    st.sampled_from([ANY, NO_STREAM, STREAM_EXISTS]), st.integers(min_value=-1, max_value=6)
)
EVENTS = st.lists(st.sampled_from(["Rose", "Fell", "Rested"]), min_size=1, max_size=3)
CHANNELS = st.sampled_from([None, None, None, "a", "z"])

Stored = tuple[str, int, str, str, int]  # stream, version, id, type, number


class Model:
    """What the store should be: a list, and what each stream's channel is."""

    def __init__(self) -> None:
        self.log: list[Stored] = []
        self.channels: dict[str, str] = {}

    def version(self, stream: str) -> int:
        return sum(stored[0] == stream for stored in self.log) - 1

    def holds(self, stream: str, expected: int | ExpectedVersion) -> bool:
        version = self.version(stream)
        if expected is ANY:
            return True
        if expected is STREAM_EXISTS:
            return version >= 0
        return version == (-1 if expected is NO_STREAM else expected)

    def copy(self) -> Model:
        other = Model()
        other.log, other.channels = list(self.log), dict(self.channels)
        return other

    def append(
        self,
        stream: str,
        events: list[NewEvent],
        expected: int | ExpectedVersion,
        channel: str | None,
    ) -> tuple[int, bool]:
        """Append, or raise what the store should raise; version and whether it was a retry."""
        if stream in self.channels and channel not in (None, self.channels[stream]):
            raise ChannelMismatch(stream, str(channel), self.channels[stream])
        found = [stored for event in events for stored in self.log if stored[2] == str(event.id)]
        if found:
            first = found[0][1]
            same = [
                (stream, first + place, str(event.id), event.type, event.data["number"])
                for place, event in enumerate(events)
            ]
            fits = isinstance(expected, ExpectedVersion) and expected is not NO_STREAM
            start = -1 if expected is NO_STREAM else expected
            if found == same and (fits or first - 1 == start):
                return first + len(events) - 1, True
            raise DuplicateEvent([])
        if not self.holds(stream, expected):
            raise WrongExpectedVersion.__new__(WrongExpectedVersion)
        self.channels.setdefault(stream, channel or stream.split("-")[0])
        for event in events:
            self.log.append(
                (stream, self.version(stream) + 1, str(event.id), event.type, event.data["number"])
            )
        return self.version(stream), False


class StoreMachine(RuleBasedStateMachine):
    """Runs each operation on both, and compares results, errors and all that can be read."""

    url: str
    base_schema: str

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.given: list[tuple[str, list[NewEvent], Any]] = []
        self.counter = 0
        self.schema = f"{self.base_schema}_{uuid4().hex[:8]}"
        migrate_store(Settings(self.url, self.schema))
        self.store = EventStore.connect(self.url, schema=self.schema, pool_size=2)

    def teardown(self) -> None:
        self.store.close()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {self.schema} CASCADE")

    def events(self, types: list[str]) -> list[NewEvent]:
        self.counter += len(types)
        return [NewEvent(name, {"number": self.counter + n}) for n, name in enumerate(types)]

    def compare_append(
        self, store: EventStore, model: Model, stream: str, events: Any, expected: Any, channel: Any
    ) -> None:
        try:
            wanted: Any = model.append(stream, events, expected, channel)
        except IndelibleError as error:
            with pytest.raises(type(error)) as refusal:
                store.append(stream, events, expected=expected, channel=channel)
            if isinstance(refusal.value, WrongExpectedVersion):
                assert refusal.value.actual == model.version(stream)
        else:
            result = store.append(stream, events, expected=expected, channel=channel)
            assert (result.version, result.idempotent) == wanted

    @initialize()
    def nothing_is_there(self) -> None:
        assert self.store.head() == 0

    @rule(stream=STREAMS, types=EVENTS, expected=EXPECTED, channel=CHANNELS)
    def append(self, stream: str, types: list[str], expected: Any, channel: Any) -> None:
        events = self.events(types)
        self.given.append((stream, events, expected))
        self.compare_append(self.store, self.model, stream, events, expected, channel)

    @rule(stream=STREAMS, types=EVENTS, ahead=st.integers(0, 1))
    def append_what_was_read(self, stream: str, types: list[str], ahead: int) -> None:
        events = self.events(types)
        expected = self.model.version(stream) + ahead
        self.given.append((stream, events, expected))
        self.compare_append(self.store, self.model, stream, events, expected, None)

    @rule(data=st.data(), stream=STREAMS, expected=EXPECTED, cut=st.integers(0, 2))
    def retry(self, data: Any, stream: str, expected: Any, cut: int) -> None:
        """The same again; or a part of it, in another stream, or with another expectation."""
        if not self.given:
            return
        first_stream, events, first_expected = data.draw(st.sampled_from(self.given))
        if cut == 0:
            stream, expected = first_stream, first_expected
        elif cut == 1:
            stream, events = first_stream, [*events[:1], *self.events(["Rose"])]
        self.compare_append(self.store, self.model, stream, events, expected, None)

    @rule(
        parts=st.lists(
            st.tuples(STREAMS, st.lists(st.just("Rose"), max_size=2), EXPECTED), max_size=4
        )
    )
    def append_many(self, parts: list[tuple[str, list[str], Any]]) -> None:
        appends = [StreamAppend(s, self.events(types), expected) for s, types, expected in parts]
        after = self.model.copy()
        failed = []
        for part in appends:
            if not after.holds(part.stream, part.expected):
                failed.append(part.stream)
            # A failed check does not change what the next part of the stream is checked against.
            elif part.events:
                after.append(part.stream, part.events, ANY, None)
        if failed:
            with pytest.raises(WrongExpectedVersion) as refusal:
                self.store.append_many(appends)
            assert [conflict.stream for conflict in refusal.value.conflicts] == failed
        else:
            results = self.store.append_many(appends)
            assert [result.stream for result in results] == [part.stream for part in appends]
            self.model = after

    @rule(
        steps=st.lists(st.tuples(STREAMS, EVENTS, EXPECTED, st.booleans()), max_size=3),
        commits=st.booleans(),
    )
    def transaction(self, steps: list[tuple[str, list[str], Any, bool]], commits: bool) -> None:
        inside = self.model.copy()
        try:
            with self.store.transaction() as transaction:
                for stream, types, expected, keeps in steps:
                    events = self.events(types)
                    part = inside.copy()
                    try:
                        with transaction.transaction() as savepoint:
                            self.compare_append(savepoint, part, stream, events, expected, None)
                            if not keeps:
                                raise RuntimeError("undo the savepoint")
                        inside = part
                    except RuntimeError:
                        pass
                if not commits:
                    raise RuntimeError("roll back")
            self.model = inside
        except RuntimeError:
            pass

    @rule(stream=STREAMS, low=st.integers(0, 4), high=st.integers(0, 6), limit=st.integers(0, 4))
    def read(self, stream: str, low: int, high: int, limit: int) -> None:
        wanted = [s for s in self.model.log if s[0] == stream and low <= s[1] <= high]
        read = self.store.read(stream, from_version=low, to_version=high, limit=limit)
        assert [told(e) for e in read] == wanted[:limit]
        back = self.store.read(stream, from_version=low, to_version=high, backwards=True)
        assert [told(e) for e in back] == wanted[::-1]

    @rule(
        types=st.sets(st.sampled_from(["Rose", "Fell"])),
        prefix=st.sampled_from([None, "a", "a-1"]),
        channel=st.sampled_from([None, "a", "b"]),
        limit=st.integers(0, 5),
        joined=st.booleans(),
    )
    def read_all(
        self, types: set[str], prefix: Any, channel: Any, limit: int, joined: bool
    ) -> None:
        query = Query(types=sorted(types), stream_prefix=prefix, channel=channel)
        if joined:
            query |= Query(types="Rested")
        wanted = [
            stored
            for stored in self.model.log
            if (
                (not types or stored[3] in types)
                and stored[0].startswith(prefix or "")
                and channel in (None, self.model.channels[stored[0]])
            )
            or (joined and stored[3] == "Rested")
        ]
        assert [told(e) for e in self.store.read_all(query)] == wanted
        assert [told(e) for e in self.store.read_all(query, limit=limit)] == wanted[:limit]
        assert [told(e) for e in self.store.read_all(query, backwards=True)] == wanted[::-1]

    @rule()
    def look(self) -> None:
        found = {info.stream: (info.channel, info.version) for info in self.store.streams()}
        assert found == {
            stream: (channel, self.model.version(stream))
            for stream, channel in self.model.channels.items()
        }
        assert self.store.stats().events == len(self.model.log)


def told(event: Any) -> Stored:
    return event.stream, event.version, str(event.id), event.type, event.data["number"]


def test_the_store_does_what_a_list_would_do(url: str, schema: str) -> None:
    class Machine(StoreMachine):
        pass

    Machine.url = url
    Machine.base_schema = schema
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
