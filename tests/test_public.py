"""What is exported and documented, and what is the same for threads and for tasks."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import indelible
from indelible import (
    App,
    AsyncApp,
    AsyncConsumer,
    AsyncLog,
    Consumer,
    Log,
    errors,
    testing,
)
from indelible.core.concurrency import Background
from indelible.core.concurrency_async import AsyncBackground

_REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def public_methods(face: type) -> dict[str, object]:
    return {name: member for name, member in inspect.getmembers(face) if not name.startswith("_")}


def words(text: str) -> str:
    """A parameter with the words that differ between threads and tasks made alike."""
    return re.sub(r"Async(?=[A-Z])", "", text).replace("asyncio", "threading")


def test_the_exports_are_sorted_and_there() -> None:
    names = indelible.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(indelible, name) for name in names)


def test_every_error_is_public_and_drawn_in_the_tree() -> None:
    def branches(error: type) -> list[str]:
        found = [error.__name__]
        for child in error.__subclasses__():
            if child.__module__ == "indelible.errors":
                found += branches(child)
        return found

    real = branches(errors.IndelibleError)
    drawn = re.findall(r"^\s*[│├└─ ]*([A-Z]\w+)", errors.__doc__ or "", flags=re.MULTILINE)
    drawn = [name for name in drawn if hasattr(errors, name)]
    assert sorted(drawn) == sorted(real)
    assert set(real) <= set(indelible.__all__)


@pytest.mark.parametrize(
    ("sync", "twin"),
    [
        (App, AsyncApp),
        (Consumer, AsyncConsumer),
        (Log, AsyncLog),
        (Background, AsyncBackground),
    ],
)
def test_what_is_written_by_hand_for_threads_and_tasks_has_the_same_methods(
    sync: type, twin: type
) -> None:
    ours, theirs = public_methods(sync), public_methods(twin)
    assert ours.keys() == theirs.keys()
    for name, member in ours.items():
        other = theirs[name]
        assert inspect.getdoc(member), name
        assert inspect.getdoc(other), name
        if callable(member) and callable(other):
            of_sync, of_twin = inspect.signature(member), inspect.signature(other)
            assert [words(str(p)) for p in of_sync.parameters.values()] == [
                words(str(p)) for p in of_twin.parameters.values()
            ], name


def test_every_public_name_has_a_docstring() -> None:
    for name in indelible.__all__:
        value = getattr(indelible, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_every_public_name_stands_in_the_reference() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in _REFERENCE.glob("*.md"))
    for name in [*indelible.__all__, *testing.__all__]:
        assert re.search(rf"\b{name}\b|::: indelible\.errors", pages), name


def test_it_works_without_assertions_and_docstrings() -> None:
    code = """
from dataclasses import dataclass
from indelible import App, AsyncEventStore, EventStore
from indelible.serialization.codec import Codec

@dataclass
class Paid:
    cents: int

codec = Codec([Paid])
raise SystemExit(codec.decode("Paid", codec.encode("Paid", Paid(5))) != Paid(5))
"""
    subprocess.run([sys.executable, "-OO", "-c", code], check=True, timeout=60)
