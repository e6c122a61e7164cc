"""Run some benchmarks with little data. `make bench-quick` runs all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def test_a_run_in_small_writes_its_results_and_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("hdrh", reason="make bench-quick installs it")
    with tempfile.TemporaryDirectory(prefix="indelible-tests-") as folder:
        Path(folder).chmod(0o755)  # so that the account of the server can enter
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks", "--quick", "--alone"),
                *("--only", "single,loads,costs", "--out", str(tmp_path)),
            ],
            cwd=_ROOT,
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert list(Path(folder).iterdir()) == []

    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert found["server"]["fsync"] == "on"
    assert found["server"]["synchronous_commit"] == "on"
    assert {row["budget"] for row in found["rows"]} >= {"≥ 0.6"}
    assert all(
        result["per_second"] > 0 for each in found["comparisons"] for result in each["results"]
    )
    costs = found["profiles"][0]["rows"]
    assert ["one client", "Indelible"] in [row[:2] for row in costs]
    assert all(float(figure.replace(",", "")) > 0 for row in costs for figure in (row[2], row[6]))
    assert "one client, one event per append" in (tmp_path / "table.md").read_text("utf-8")
    assert (tmp_path / "chart.svg").stat().st_size > 1000
    assert (tmp_path / "chart.png").stat().st_size > 1000
