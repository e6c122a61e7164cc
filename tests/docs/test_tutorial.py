"""Run the code of the tutorial and the guides from the first line to the last."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "tutorial/food-delivery.md",
        "howto/aggregates.md",
        "howto/dcb.md",
        "howto/event-versioning.md",
        "howto/consumer-groups.md",
        "howto/projections.md",
        "howto/operate-projections.md",
        "howto/bulk-import.md",
        "index.md",
        "explanation/stream-lifecycle.md",
        "explanation/bitemporal.md",
    ],
)
def test_the_code_of_a_page_runs(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (_DOCS / page).read_text("utf-8"), flags=re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="indelible-docs-", ignore_cleanup_errors=True) as at:
        Path(at).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(blocks)],
            env={"PATH": "/usr/bin:/bin", "INDELIBLE_URL": f"embedded://{at}/store"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.stderr == ""
    assert done.returncode == 0
    if "react" in page:
        assert "cook 1 attempt 1" in done.stdout
        assert "did not reach position 2" in done.stdout
        assert "2 OrderCreated(order='2', address='3 Mill Lane')" in done.stdout
    if "write" in page:
        assert "balance 50\nversion 2 (Withdrawn(amount=20),)\nleft 20\nstill 0\n" in done.stdout
        assert "then 50 at version 1" in done.stdout
        assert done.stdout.endswith("from all events 280\nfrom a snapshot 280\n")
    if "read-models" in page:
        assert "Order(customer='ann', to_pay=1200, status='open')\n{'orders': 2}" in done.stdout
        assert "['order-2'] 3 3 True" in done.stdout
        assert "{'customer': 'ANN'}\n(Decimal('1500'),)" in done.stdout
    if "decide" in page:
        assert "subscribed at position 2" in done.stdout
        assert "s3: the course is full" in done.stdout
        assert "the name ann belongs to u1" in done.stdout
        assert "ann is u2" in done.stdout
        assert "[1, 2, 3]" in done.stdout
    if "tutorial" in page:
        assert "a delivery that is canceled cannot be picked up" in done.stdout
        assert "expected at 0, but it is at version 1" in done.stdout
