"""Every page with code runs as it stands, on a fresh machine, twice."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PageFailure, run, steps, units

_ROOT = Path(__file__).parents[2]
_NOT_YET = {  # still run by test_tutorial.py, test_howto_web.py and test_readme.py
    "docs/howto/aggregates.md",
    "docs/howto/bulk-import.md",
    "docs/howto/consumer-groups.md",
    "docs/howto/dcb.md",
    "docs/howto/django.md",
    "docs/howto/event-versioning.md",
    "docs/howto/fastapi.md",
    "docs/howto/operate-projections.md",
    "docs/howto/projections.md",
    "docs/howto/testing.md",
}
_PAGES = sorted(
    name
    for path in [_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")]
    if (name := str(path.relative_to(_ROOT))) not in _NOT_YET and steps(path.read_text("utf-8"))
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
