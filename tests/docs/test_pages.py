"""Every page with code runs as it stands, on a fresh machine, twice."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PageFailure, run, steps, units

_ROOT = Path(__file__).parents[2]
_PAGES = sorted(
    str(path.relative_to(_ROOT))
    for path in [_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")]
    if steps(path.read_text("utf-8"))
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short path: sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True) as at:
        Path(at).chmod(0o755)
        yield Path(at)


@pytest.mark.parametrize("pages", [pytest.param(each, id=name) for name, each in units(_PAGES)])
def test_pages_run_as_they_stand_and_a_second_time(pages: list[str], home: Path) -> None:
    folder = home / "work"
    folder.mkdir()
    for page in [*pages, *pages]:
        text = (_ROOT / page).read_text("utf-8")
        if "curl " in text and not shutil.which("curl"):
            pytest.skip("curl is not installed")
        try:
            run(text, home, folder)
        except PageFailure as failure:
            failure.add_note(f"in {page}")
            raise
