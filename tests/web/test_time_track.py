"""Where events stand on the track, against a model of a few lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.server.web.time_track import Axis, Moments, Scale, holds, is_known, track

_BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
_NOW = _BEGIN + timedelta(days=30)


def _at(hours: float) -> datetime:
    return _BEGIN + timedelta(hours=hours)


@st.composite
def _streams(draw: st.DrawFn) -> list[Moments]:
    recorded = sorted(draw(st.lists(st.integers(0, 600), min_size=1, max_size=20)))
    return [
        Moments(version, version * 3 + 1, _at(hours), _at(hours + draw(st.integers(-9, 9))), "T")
        for version, hours in enumerate(recorded)
    ]


@pytest.mark.parametrize("scale", ["even", "time"])
@given(events=_streams())
def test_a_stop_knows_what_the_model_knows(events: list[Moments], scale: Scale) -> None:
    made = track(events, _NOW, scale)
    for stop in made.recorded:
        known = [each for each in events if is_known(each, int(stop.value))]
        assert stop.count == len(known)
        assert known == [each for each in events if each.recorded_at <= stop.moment]
    for stop in made.valid:
        held = [each for each in events if holds(each, stop.moment)]
        assert stop.count == len(held) == sum(each.valid_at <= stop.moment for each in events)


@pytest.mark.parametrize("scale", ["even", "time"])
@given(events=_streams())
def test_places_are_in_order_and_within_the_axis(events: list[Moments], scale: Scale) -> None:
    made = track(events, _NOW, scale)
    assert all(0 <= tick.recorded <= 1000 and 0 <= tick.valid <= 1000 for tick in made.ticks)
    for stops in (made.recorded, made.valid):
        assert [stop.x for stop in stops] == sorted(stop.x for stop in stops)
        assert [stop.moment for stop in stops] == sorted({stop.moment for stop in stops})
    by_version = {each.version: each for each in events}
    for tick in made.ticks:
        event = by_version[tick.version]
        if event.valid_at < event.recorded_at:
            assert (tick.lean, tick.valid <= tick.recorded) == ("late", True)
        elif event.valid_at > event.recorded_at:
            assert (tick.lean, tick.valid >= tick.recorded) == ("ahead", True)
        else:
            assert (tick.lean, tick.valid) == ("", tick.recorded)


def test_moments_stand_at_equal_distances() -> None:
    axis = Axis([_at(0), _at(1), _at(2), _at(500)], "even")
    assert [axis.x(_at(hours)) for hours in (0, 1, 2, 500)] == [0, 333, 666, 1000]
    assert axis.x(_at(-5)) == 0
    assert axis.x(_at(900)) == 1000
    assert 0 < axis.x(_at(0.5)) < 333


def test_moments_stand_to_scale() -> None:
    axis = Axis([_at(0), _at(1), _at(100)], "time")
    assert [axis.x(_at(hours)) for hours in (0, 1, 50, 100)] == [0, 10, 500, 1000]


def test_a_long_silence_is_marked() -> None:
    events = [Moments(v, v + 1, _at(h), _at(h), "T") for v, h in enumerate((0, 1, 2, 3, 300, 301))]
    (silence,) = track(events, _at(302), "even").silences
    assert silence.seconds == 297 * 3600
    assert not track(events, _at(302), "time").silences


def test_two_events_of_one_moment_are_both_known_or_neither() -> None:
    events = [Moments(0, 5, _at(1), _at(1), "T"), Moments(1, 6, _at(1), _at(1), "T")]
    (stop,) = track(events, _NOW, "even").recorded
    assert (stop.value, stop.count) == ("6", 2)
