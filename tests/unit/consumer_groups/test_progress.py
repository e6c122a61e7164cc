"""Which progress a worker writes slice by slice, besides its checkpoint."""

from __future__ import annotations

from indelible.consumer_groups.progress import START, OwnedSlices, Progress, Slice


def slices(**finished: int) -> OwnedSlices:
    """Slices that have finished their events up to these positions since the last heartbeat."""
    owned = OwnedSlices()
    for name, position in finished.items():
        number = int(name.removeprefix("slice_"))
        owned.by_number[number] = Slice(Progress(position), START, START)
        owned.finished.add(number)
    return owned


def written(owned: OwnedSlices, checkpoint: int) -> dict[int, int]:
    """The slices that a heartbeat with this checkpoint writes."""
    places = owned.overdue_above(Progress(checkpoint))
    owned.note_written(Progress(checkpoint))
    return {number: place.position for number, place in places.items()}


def test_what_the_next_checkpoint_covers_is_not_written_slice_by_slice() -> None:
    owned = slices(slice_1=7, slice_2=9)
    assert written(owned, 5) == {}
    assert written(owned, 9) == {}
    assert not owned.has_unwritten


def test_what_is_finished_above_a_checkpoint_that_stays_is_written_with_the_second_heartbeat() -> (
    None
):
    owned = slices(slice_1=7, slice_2=9)
    assert written(owned, 5) == {}
    assert owned.has_unwritten
    assert written(owned, 7) == {2: 9}
    assert not owned.has_unwritten


def test_what_is_finished_later_waits_for_a_heartbeat_of_its_own() -> None:
    owned = slices(slice_1=7)
    assert written(owned, 5) == {}
    owned.by_number[2] = Slice(Progress(9), START, START)
    owned.finished.add(2)
    assert written(owned, 5) == {1: 7}
    assert written(owned, 5) == {2: 9}


def test_a_slice_that_is_no_longer_owned_is_not_written() -> None:
    owned = slices(slice_1=7, slice_2=9)
    written(owned, 5)
    del owned.by_number[1]
    assert written(owned, 5) == {2: 9}
