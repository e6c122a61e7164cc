"""Which positions a filtered reader reads, with any windows written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import Query
from indelible.core.operation import Rows, Statement, run
from indelible.streams.log_windows import WINDOW, MatchingWindows, write_all_log_windows

LAST = 60 * WINDOW


class Log:
    """Matching events at some positions, and windows up to one."""

    def __init__(self, events: set[int], written: int, writes: list[int]) -> None:
        self.events = events
        self.written = written
        self.writes = writes
        self.calls: list[str] = []

    def execute(self, call: Statement) -> Rows:
        self.calls.append(call.name)
        if call.name == "streams.write_log_windows":
            self.written += (self.writes.pop() if self.writes else 0) * WINDOW
            return [(self.written,)]
        after, upto = call.parameters["after"], call.parameters["upto"]
        assert isinstance(after, int)
        assert isinstance(upto, int)
        windows = {-(-event // WINDOW) * WINDOW for event in self.events}
        found = [end for end in windows if after < end < upto + WINDOW and end <= self.written]
        return [(self.written, sorted(found))]

    def read(self, *, after: int, upto: int, backwards: bool, page: int) -> list[int]:
        """Read pages of some events, between two positions."""
        windows = MatchingWindows(Query(types="A"), backwards=backwards)
        found: list[int] = []
        while after < upto:
            bounds = run(windows.next_bounds(after, upto, {}), self.execute)
            if bounds is None:
                edge = max(after, upto - 2 * WINDOW) if backwards else min(upto, after + 2 * WINDOW)
                bounds = (edge, upto) if backwards else (after, edge)
            low, high = bounds
            assert after <= low <= high <= upto
            if low == high:
                assert low != (upto if backwards else after)
            matching = sorted(event for event in self.events if low < event <= high)
            matching = matching[::-1][:page] if backwards else matching[:page]
            found += matching
            is_full = len(matching) == page
            if backwards:
                upto = matching[-1] - 1 if is_full else low
            else:
                after = matching[-1] if is_full else high
        return found


places = st.integers(1, 15 * WINDOW) | st.builds(
    lambda window, step: max(1, window * WINDOW + step), st.integers(0, 15), st.integers(-1, 1)
)


@given(
    events=st.sets(places, max_size=30),
    written=st.integers(0, 16),
    writes=st.lists(st.integers(0, 9), max_size=5),
    bounds=st.tuples(places, places),
    backwards=st.booleans(),
    page=st.integers(1, 5),
)
def test_whatever_windows_there_are_each_event_is_read_once(
    events: set[int],
    written: int,
    writes: list[int],
    bounds: tuple[int, int],
    backwards: bool,
    page: int,
) -> None:
    after, upto = sorted(bounds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indelible.streams.log_windows._LOOKED_UP_AT_ONCE", 4 * WINDOW + 123)
        log = Log(events, min(written, upto // WINDOW) * WINDOW, writes)

        found = log.read(after=after, upto=upto, backwards=backwards, page=page)

    expected = sorted(event for event in events if after < event <= upto)
    assert found == (expected[::-1] if backwards else expected)


def test_adjacent_windows_are_read_together_up_to_a_bound() -> None:
    log = Log({n * WINDOW for n in (*range(11, 36), 38)}, LAST, [])
    windows = MatchingWindows(Query(types="A"))

    def bounds(after: int) -> Any:
        return run(windows.next_bounds(after, LAST, {}), log.execute)

    assert bounds(0) == (10 * WINDOW, 30 * WINDOW)
    assert bounds(11 * WINDOW - 1) == (11 * WINDOW - 1, 30 * WINDOW)
    assert bounds(12 * WINDOW + 5) == (12 * WINDOW + 5, 32 * WINDOW)
    assert bounds(30 * WINDOW) == (30 * WINDOW, 35 * WINDOW)
    assert bounds(35 * WINDOW) == (37 * WINDOW, 38 * WINDOW)
    assert bounds(38 * WINDOW) == (LAST, LAST)
    assert log.calls == ["streams.matching_windows"]


def test_a_reader_that_goes_back_looks_up_windows_again() -> None:
    """A worker of a group does so when it gets slices that another one had."""
    log = Log({5, 50 * WINDOW}, LAST, [])
    windows = MatchingWindows(Query(types="A"))

    found = [
        run(windows.next_bounds(after, LAST, {}), log.execute) for after in (40 * WINDOW, WINDOW, 0)
    ]

    assert found == [(49 * WINDOW, 50 * WINDOW), (49 * WINDOW, 50 * WINDOW), (0, WINDOW)]


def test_positions_of_one_window_need_no_statement() -> None:
    log = Log(set(), LAST, [])
    windows = MatchingWindows(Query(types="A"))

    assert run(windows.next_bounds(WINDOW, 2 * WINDOW - 1, {}), log.execute) is None
    assert log.calls == []


@pytest.mark.parametrize(
    ("query", "is_narrowed"),
    [
        (None, False),
        (Query(), False),
        (Query(tags="a:b"), False),
        (Query(stream_prefix="a"), False),
        (Query(types="A"), True),
        (Query(channel="a"), True),
        (Query(types="A", tags="a:b"), True),
        (Query(types="A") | Query(channel="a"), True),
        (Query(types="A") | Query(stream="a"), False),
    ],
)
def test_each_item_must_name_types_or_a_channel(query: Query | None, is_narrowed: bool) -> None:
    assert (MatchingWindows.of(query) is not None) == is_narrowed


def test_windows_are_written_until_no_more_are() -> None:
    log = Log(set(), 0, [0, 3, 5])

    run(write_all_log_windows(), log.execute)

    assert log.written == 8 * WINDOW
    assert log.calls == ["streams.write_log_windows"] * 3
