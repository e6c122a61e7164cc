"""Rights: what a principal may do, and the queries that the database is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import InvalidInput, Query, RecordedEvent
from indelible.access import Grant, Principal, Verb
from indelible.access.rights import everything, verbs_of

CHANNELS = ["sales", "delivery"]
STREAMS = ["a", "ab", "abc", "b"]
PREFIXES = ["a", "ab", "b", "c"]

verbs = st.frozensets(st.sampled_from(list(Verb)), min_size=1)
grants = st.builds(
    Grant, verbs, st.none() | st.sampled_from(CHANNELS), st.none() | st.sampled_from(PREFIXES)
)
principals = st.builds(Principal, st.just("somebody"), st.lists(grants, max_size=3))
items = st.builds(
    Query,
    types=st.lists(st.sampled_from(["X", "Y"]), max_size=1),
    tags=st.lists(st.sampled_from(["k:1", "k:2"]), max_size=1),
    channel=st.none() | st.sampled_from(CHANNELS),
    stream_prefix=st.none() | st.sampled_from(PREFIXES),
    stream=st.none() | st.sampled_from(STREAMS),
)
queries = items | st.builds(lambda one, other: one | other, items, items)


def event(stream: str, channel: str) -> RecordedEvent:
    now = datetime.now(UTC)
    return RecordedEvent(1, stream, 0, uuid4(), "X", {}, {}, ("k:1",), channel, now, now)


@given(principals, st.sampled_from(list(Verb)), queries)
def test_a_narrowed_query_matches_what_the_query_matches_and_the_principal_may(
    principal: Principal, verb: Verb, query: Query
) -> None:
    narrowed = principal.narrow(verb, query)

    for stream in STREAMS:
        for channel in CHANNELS:
            found = event(stream, channel)
            matches = any(item.matches(found) for item in narrowed.items) if narrowed else False
            wanted = any(item.matches(found) for item in query.items)
            assert matches == (wanted and principal.may(verb, stream, channel))


@given(principals, st.sampled_from(list(Verb)), queries)
def test_a_covered_query_matches_only_what_the_principal_may(
    principal: Principal, verb: Verb, query: Query
) -> None:
    if principal.covers(verb, query):
        for stream in STREAMS:
            for channel in CHANNELS:
                if any(item.matches(event(stream, channel)) for item in query.items):
                    assert principal.may(verb, stream, channel)


@given(principals, st.sampled_from(list(Verb)), st.sampled_from(STREAMS))
def test_the_channels_of_a_stream_are_those_in_which_the_principal_may(
    principal: Principal, verb: Verb, stream: str
) -> None:
    channels = principal.channels(verb, stream)

    for channel in [*CHANNELS, "another"]:
        assert principal.may(verb, stream, channel) == (channels is None or channel in channels)


def test_a_right_to_some_streams_is_none_to_everything() -> None:
    everywhere = frozenset({Verb.READ})
    assert everything("root").may_everywhere(Verb.MANAGE)
    assert Principal("a", [Grant(everywhere)]).may_everywhere(Verb.READ)
    assert not Principal("a", [Grant(everywhere)]).may_everywhere(Verb.APPEND)
    assert not Principal("a", [Grant(everywhere, "sales")]).may_everywhere(Verb.READ)
    assert not Principal("a", [Grant(everywhere, None, "a")]).may_everywhere(Verb.READ)


def test_verbs_are_read_from_text_and_lists() -> None:
    assert verbs_of("read, append") == verbs_of(["append", "read"]) == {Verb.READ, Verb.APPEND}


@pytest.mark.parametrize("given", ["raed", "", [], ["READ"], "read;append"])
def test_unknown_verbs_are_refused(given: str | list[str]) -> None:
    with pytest.raises(InvalidInput, match="read, append, consume, manage"):
        verbs_of(given)
