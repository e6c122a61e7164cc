"""How the demo names the program in the commands that it shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from indelible.cli.demo import invocation


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("indelible", "python"):
        (programs / name).touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(programs / "indelible")])
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    return tmp_path


def test_a_program_in_the_current_folder_has_its_relative_path(checkout: Path) -> None:
    assert invocation() == ".venv/bin/indelible"


def test_a_program_on_the_path_has_its_name(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(checkout / ".venv" / "bin"))

    assert invocation() == "indelible"


def test_a_program_elsewhere_has_its_whole_path(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    assert invocation() == f"{checkout}/.venv/bin/indelible"


def test_the_module_is_started_with_its_python(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/indelible/__main__.py"])

    assert invocation() == ".venv/bin/python -m indelible"
