"""A projection has the same state in all three lifecycles, for any sequence of operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import ANY, DocumentProjection, EventStore, RecordedEvent, StreamAppend, handles
from indelible.projections import Projector


@dataclass(frozen=True)
class Joined:
    who: str


@dataclass(frozen=True)
class Left:
    who: str


@dataclass(frozen=True)
class Renamed:
    name: str


class Rooms(DocumentProjection[dict]):
    """A document a stream, and one for each person; order matters in both."""

    name = "rooms"

    def key(self, event: RecordedEvent) -> Sequence[str]:
        who = getattr(event.data, "who", None)
        return [event.stream, *([f"person-{who}"] if who else [])]

    @handles(Joined)
    def joined(self, room: dict[str, Any] | None, event: RecordedEvent) -> dict:
        found = room or {"events": []}
        found["events"].append(["joined", event.stream, event.data.who])
        return found

    @handles(Left)
    def left(self, room: dict[str, Any] | None, event: RecordedEvent) -> dict | None:
        if room is None or len(room["events"]) > 5:
            return None
        room["events"].insert(0, ["left", event.data.who])
        return room

    @handles(Renamed)
    def renamed(self, room: dict[str, Any] | None, event: RecordedEvent) -> dict | None:
        return room and {**room, "name": event.data.name}


class InlineRooms(Rooms):
    name = "inline-rooms"


class SplitRooms(Rooms):
    name = "split-rooms"
    partitions = 3


people = st.sampled_from(["ann", "bob"])
facts = st.one_of(
    st.builds(Joined, people), st.builds(Left, people), st.builds(Renamed, st.text(max_size=3))
).filter(lambda event: not isinstance(event, Renamed) or "\x00" not in event.name)
appends = st.lists(
    st.tuples(st.sampled_from(["room-1", "room-2", "room-3"]), st.lists(facts, min_size=1)),
    max_size=5,
)
histories = st.lists(st.tuples(st.booleans(), appends), max_size=6)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=histories)
def test_a_projection_says_the_same_in_all_lifecycles(
    history: list[tuple[bool, list[tuple[str, list[object]]]]],
    sync_store: EventStore,
    url: str,
    schema: str,
) -> None:
    with EventStore.connect(
        url, schema=schema, events=[Joined, Left, Renamed], inline=[InlineRooms], pool_size=2
    ) as store:
        follower = store.projector(Rooms)
        follower.take_over()
        for follows, parts in history:
            store.append_many([StreamAppend(stream, events, ANY) for stream, events in parts])
            if follows:
                _catch_up(follower, store)
        _catch_up(follower, store)
        follower.close()
        store.catch_up(SplitRooms)

        live = store.project(Rooms).documents
        for kept in (Rooms, InlineRooms, SplitRooms):
            assert dict(store.documents(kept).find()) == live
        for key in live:
            assert store.project(Rooms, key).document == live[key]


def _catch_up(projector: Projector, store: EventStore) -> None:
    head = store.head()
    while projector.position < head:
        projector.step()
