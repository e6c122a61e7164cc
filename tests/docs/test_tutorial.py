"""The code of the tutorial and the guides is run from its first line to its last."""

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
        "howto/aggregates.md",
        "howto/dcb.md",
        "howto/event-versioning.md",
        "howto/consumer-groups.md",
        "howto/projections.md",
        "howto/operate-projections.md",
        "howto/bulk-import.md",
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
