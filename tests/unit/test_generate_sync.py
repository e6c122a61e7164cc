"""The tool that makes the sync modules from the async ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_TOOL = Path(__file__).parents[2] / ".ci" / "generate_sync.py"


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync", _TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("written", "generated"),
    [
        ("async with a, b() as c: pass", "with a, b() as c: pass"),
        ("x = [await y async for y in z]", "x = [y for y in z]"),
        ("return await  self.run(1)", "return self.run(1)"),
        ("from .log_async import AsyncX, _AsyncY", "from .log import X, _Y"),
        ("check(is_async=True)", "check(is_async=True)"),
        ("raise StopAsyncIteration", "raise StopIteration"),
        ('"""`await` it: `AsyncX.y`."""', '"""`await` it: `X.y`."""'),
        ('"""Example: async with x: await y()"""', '"""Example: with x: y()"""'),
        ('"""An async projection"""', '"""An async projection"""'),
        ('"""One task uses it."""', '"""One thread uses it."""'),
        ("a = 1  # of AsyncX", "a = 1  # of X"),
        ('f"{{an}} AsyncX {await x!r:>{y}}"', 'f"{{an}} X {x!r:>{y}}"'),
    ],
)
def test_async_code_and_its_words_become_sync(
    tool: ModuleType, written: str, generated: str
) -> None:
    assert tool.rewrite(f"{written}\n") == f"{generated}\n"


def test_what_stands_between_tokens_stays(tool: ModuleType) -> None:
    written = "def f(\n    a: int,  # one\n) -> None:\n    x = \\\n        a\n\n\n    y\n"
    assert tool.rewrite(written) == written


def _lay_out(tool: ModuleType, folder: Path, monkeypatch: Any) -> None:
    (folder / "x_async.py").write_text("async def f_async() -> None: ...\n")
    monkeypatch.setattr(tool, "SOURCE", folder)
    monkeypatch.setattr(tool, "ROOT", folder)
    monkeypatch.setattr(tool, "HAND_WRITTEN", set())
    monkeypatch.setattr(tool, "NAMES", {})
    monkeypatch.setattr(tool, "PHRASES", {})
    monkeypatch.setattr(tool, "PATTERNS", {r"(\w*)_async": r"\1"})


def test_a_generated_module_that_was_edited_fails_the_check(
    tool: ModuleType, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    _lay_out(tool, tmp_path, monkeypatch)
    assert tool.main(only_check=True) == 1
    assert tool.main(only_check=False) == 0
    assert tool.main(only_check=True) == 0
    (tmp_path / "x.py").write_text("def f() -> int: ...\n")
    assert tool.main(only_check=True) == 1
    assert "-def f() -> int: ..." in capsys.readouterr().out


def test_a_generated_module_that_nothing_generates_fails_the_check(
    tool: ModuleType, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    _lay_out(tool, tmp_path, monkeypatch)
    assert tool.main(only_check=False) == 0
    (tmp_path / "x.py").rename(tmp_path / "y.py")
    assert tool.main(only_check=False) == 1
    assert "y.py: has no async source" in capsys.readouterr().out


def test_a_rule_that_nothing_uses_fails_the_check(
    tool: ModuleType, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    _lay_out(tool, tmp_path, monkeypatch)
    monkeypatch.setattr(tool, "NAMES", {"anext": "next"})
    monkeypatch.setattr(tool, "HAND_WRITTEN", {"gone_async.py"})
    assert tool.main(only_check=False) == 2
    assert "'anext'" in capsys.readouterr().err
