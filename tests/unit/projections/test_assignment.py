"""The assignment of partitions to workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from indelible.projections.assignment import PartitionKey, assign_partitions

_names = st.sampled_from("abc")
_workers = st.dictionaries(_names, st.sets(st.integers(1, 2), min_size=1), min_size=1)
_owners = st.dictionaries(
    st.builds(PartitionKey, st.integers(1, 2), st.integers(0, 5)), st.none() | _names, min_size=4
)


@given(_workers, _owners)
def test_everything_that_can_be_dealt_is_dealt_and_nobody_could_spare_any(
    workers: dict[str, set[int]], owners: dict[PartitionKey, str | None]
) -> None:
    dealt = assign_partitions(workers, owners)
    loads = {name: list(dealt.values()).count(name) for name in workers}
    for part, owner in owners.items():
        able = [name for name, can_run in workers.items() if part.build_id in can_run]
        if part in dealt:
            assert dealt[part] in able
            assert all(loads[dealt[part]] - loads[name] <= 1 for name in able)
        else:
            assert not able or (owner is not None and owner not in able)


@given(_workers, _owners)
def test_what_was_dealt_stays(
    workers: dict[str, set[int]], owners: dict[PartitionKey, str | None]
) -> None:
    dealt = assign_partitions(workers, owners)
    assert assign_partitions(workers, dealt) == dealt


def test_what_few_can_run_is_dealt_first() -> None:
    """In a rolling deployment old code runs the old version, and new code the new one."""
    workers = {"old": [1, 3], "new": [2, 3]}
    parts = [PartitionKey(build, number) for build in (1, 2, 3) for number in range(2)]
    dealt = assign_partitions(workers, dict.fromkeys(parts))
    assert [dealt[part] for part in parts] == ["old", "old", "new", "new", "new", "old"]
