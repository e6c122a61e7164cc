"""Run the code of the README."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

_README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_tour_of_the_readme_runs_and_says_what_it_promises() -> None:
    (tour,) = re.findall(r"```python\n(.*?)```", _README, flags=re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="indelible-docs-", ignore_cleanup_errors=True) as at:
        Path(at).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", tour],
            env={"PATH": "/usr/bin:/bin", "INDELIBLE_URL": f"embedded://{at}/store"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.stderr == ""
    assert "expected at 0, but it is at version 1" in done.stdout
    assert "0 " in done.stdout
    assert "2 delivery-17 DeliveryCanceled" in done.stdout


def test_the_tour_is_about_twenty_lines() -> None:
    (tour,) = re.findall(r"```python\n(.*?)```", _README, flags=re.DOTALL)

    assert len([line for line in tour.splitlines() if line.strip()]) <= 24
