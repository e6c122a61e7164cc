"""Events as values, and their ids."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from pydantic import BaseModel

from indelible import ANY, ERASED, NO_STREAM, STREAM_EXISTS, AppendResult, NewEvent, RecordedEvent
from indelible.core import uuid7 as uuid7_module
from indelible.core.uuid7 import uuid7, uuid7_hexes
from indelible.events import ExpectedVersion

_MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def moment(id_: UUID) -> datetime:
    return datetime.fromtimestamp((id_.int >> 80) / 1000, tz=UTC)


def test_an_id_is_a_uuid_of_version_7() -> None:
    for _ in range(1_000):
        id_ = uuid7()
        assert (id_.version, id_.variant) == (7, RFC_4122)


def test_an_id_begins_with_the_time() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)

    id_ = uuid7()

    assert before <= moment(id_) <= datetime.now(UTC)


def test_the_ids_of_a_process_grow() -> None:
    ids = [uuid7() for _ in range(20_000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_ids_made_within_one_tick_of_the_clock_are_different(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)

    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_the_fraction_of_a_millisecond_never_spills_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for rest in (0, 1, 499_999, 999_755, 999_999):
        monkeypatch.setattr(time, "time_ns", lambda rest=rest: 1_700_000_000_123_000_000 + rest)
        id_ = uuid7()
        assert id_.version == 7
        assert moment(id_) == datetime.fromtimestamp(1_700_000_000.123, tz=UTC)


def test_the_ids_of_events_appended_together_follow_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        uuid7_module, "_random_bits", lambda: 2**64 - 1
    )  # as near to a carry as it gets
    before = uuid7()

    ids = [UUID(digits) for digits in islice(uuid7_hexes(), 10_000)]

    assert [before, *ids] == sorted({before, *ids})
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, RFC_4122)}
    assert ids[-1].int - ids[0].int == 9_999


def test_a_new_event_has_an_id_of_its_own() -> None:
    assert NewEvent("A", {}).id != NewEvent("A", {}).id
    assert NewEvent("A", {}).id.version == 7


def test_a_new_event_has_defaults_of_its_own() -> None:
    first, second = NewEvent("A", {}), NewEvent("A", {})

    assert (first.metadata, first.tags, first.valid_at) == ({}, (), None)
    assert first.metadata is not second.metadata


def test_values_cannot_be_changed() -> None:
    event = NewEvent("A", {})
    result = AppendResult("a", 0, 1, datetime.now(UTC))

    with pytest.raises(AttributeError):
        event.type = "B"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        result.version = 7  # type: ignore[misc]


def test_expectations_have_the_values_that_the_database_takes() -> None:
    assert {e.name: e.value for e in ExpectedVersion} == {
        "NO_STREAM": -1,
        "ANY": -2,
        "STREAM_EXISTS": -4,
    }
    assert (NO_STREAM, ANY, STREAM_EXISTS) == (
        ExpectedVersion.NO_STREAM,
        ExpectedVersion.ANY,
        ExpectedVersion.STREAM_EXISTS,
    )


def test_a_forked_process_makes_event_ids_of_its_own() -> None:
    """Randomness is fetched for many ids at once: a child must not go on with its parent's."""
    forked = (
        "import os\n"
        "from indelible.events import uuid7\n"
        "uuid7()\n"
        "child = os.fork()\n"
        "os.write(1, b'%d\\n' % (uuid7().int % 2**62))\n"
        "child and os.waitpid(child, 0)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", forked], capture_output=True, check=True, timeout=60
    ).stdout.split()
    assert len(printed) == len(set(printed)) == 2


@dataclass(frozen=True)
class Paid:
    amount: Decimal
    at: datetime
    items: tuple[UUID, ...] = ()


class Model(BaseModel):
    note: str
    due: datetime


def recorded(data: Any) -> RecordedEvent:
    return RecordedEvent(
        position=17,
        stream="order-1",
        version=2,
        id=UUID(int=5),
        type="Paid",
        data=data,
        metadata={"by": "ann"},
        tags=("customer:4",),
        channel="order",
        recorded_at=_MOMENT,
        valid_at=_MOMENT,
    )


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (
            Paid(Decimal("1.50"), _MOMENT, (UUID(int=1),)),
            {"amount": "1.50", "at": "2026-01-02T03:04:05Z", "items": [str(UUID(int=1))]},
        ),
        (Model(note="é", due=_MOMENT), {"note": "é", "due": "2026-01-02T03:04:05Z"}),
        ({"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}),
        ("text", "text"),
    ],
)
def test_an_event_as_a_dict_can_be_written_as_json_by_anybody(data: Any, plain: Any) -> None:
    assert json.loads(json.dumps(recorded(data).to_dict())) == {
        "position": 17,
        "stream": "order-1",
        "version": 2,
        "id": str(UUID(int=5)),
        "type": "Paid",
        "channel": "order",
        "data": plain,
        "metadata": {"by": "ann"},
        "tags": ["customer:4"],
        "recorded_at": "2026-01-02T03:04:05+00:00",
        "valid_at": "2026-01-02T03:04:05+00:00",
    }


def test_an_erased_event_as_a_dict_says_so_and_has_no_data() -> None:
    erased = recorded(ERASED).to_dict()

    assert erased["data"] is None
    assert erased["erased"] is True
