"""What the hooks of the site write and check."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from indelible import AsyncEventStore, EventStore, errors

_DOCS = Path(__file__).parents[2] / "docs"


def _hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hook_{name}", _DOCS / ".hooks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_errors_has_a_row_for_each_with_what_to_do() -> None:
    table = _hook("errors").on_page_markdown("above\n\n<!-- errors -->\n\nbelow")

    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line[:3] == "| ["]
    assert {row[0].split("`")[1] for row in rows} == {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.IndelibleError)
    }
    assert all(len(row) == 4 and all(cell.strip() for cell in row) for row in rows)


def test_an_error_that_does_not_say_what_to_do_fails_the_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errors.StreamErased, "__doc__", "It was erased.\n\nUse another.")

    with pytest.raises(SystemExit, match="StreamErased has no paragraph"):
        _hook("errors").on_page_markdown("<!-- errors -->")


@pytest.mark.parametrize(
    ("page", "store"), [("store.md", EventStore), ("store-async.md", AsyncEventStore)]
)
def test_the_reference_of_the_store_has_all_methods_and_connect_and_append_first(
    page: str, store: type
) -> None:
    text = (_DOCS / "reference" / page).read_text("utf-8").partition("## In a transaction")[0]

    listed = re.findall(r"^        - (\w+)$", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(name for name in dir(store) if not name.startswith("_"))
    assert listed[:2] == ["connect", "append"]


def _site(folder: Path, index: str) -> dict[str, str]:
    (folder / "there").mkdir()
    (folder / "there" / "index.html").write_text('<h2 id="part">Part</h2><a href="..">up</a>')
    (folder / "a b.css").touch()
    (folder / "index.html").write_text(index)
    return {"site_dir": str(folder)}


def test_a_site_whose_links_lead_somewhere_passes(tmp_path: Path) -> None:
    config = _site(
        tmp_path,
        '<link rel="stylesheet" href="a%20b.css"><link rel="canonical" href="https://e.org/">'
        '<a href="there/#part">1</a> <a href="/there/index.html">2</a> <a id="x" href="#x">3</a>'
        '<a href="https://e.org/">4</a> <a href="mailto:a@e.org">5</a>',
    )

    _hook("links").on_post_build(config)


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="nowhere/">1</a>', r"index\.html links to nowhere/: there is no such file"),
        ('<a href="there/#other">1</a>', "links to there/#other: there is no such anchor"),
        ('<a href="#x">1</a>', "links to #x: there is no such anchor"),
        ('<img src="missing.svg">', r"links to missing\.svg: there is no such file"),
        ('<script src="https://e.org/a.js"></script>', r"loads https://e\.org/a\.js"),
        ('<link rel="stylesheet" href="//e.org/a.css">', r"loads //e\.org/a\.css"),
    ],
)
def test_a_site_with_a_fault_fails_the_build(tmp_path: Path, html: str, fault: str) -> None:
    config = _site(tmp_path, html)

    with pytest.raises(SystemExit, match=fault):
        _hook("links").on_post_build(config)
