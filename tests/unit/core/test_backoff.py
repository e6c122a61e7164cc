"""How long those wait who try again."""

from __future__ import annotations

import pytest

from indelible.core.retry import delay_after


@pytest.mark.parametrize(
    ("attempts", "first", "delay"),
    [
        (1, 0.5, 0.5),
        (4, 0.5, 4.0),
        (40, 0.5, 3_600.0),
        (1_100, 0.0, 0.0),
        (1_100, 1e-300, 1e-300 * 2**32),
        (2**31, 3_600.0, 3_600.0),
    ],
)
def test_a_pause_doubles_up_to_an_hour(attempts: int, first: float, delay: float) -> None:
    assert delay_after(attempts, first) == delay
