"""All exports are documented, and sync and async classes agree."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import indelible
from indelible import (
    App,
    AsyncApp,
    access,
    admin,
    aggregates,
    app,
    bulk_import,
    consumer_groups,
    dcb,
    errors,
    projections,
    remote,
    serialization,
    streams,
    subscriptions,
    testing,
)
from indelible.consumer_groups import AsyncConsumer, Consumer
from indelible.core.concurrency import Background
from indelible.core.concurrency_async import AsyncBackground
from indelible.streams import AsyncLog, Log

_PACKAGES = [
    indelible,
    access,
    admin,
    aggregates,
    app,
    bulk_import,
    consumer_groups,
    dcb,
    projections,
    remote,
    serialization,
    streams,
    subscriptions,
    testing,
]
_REFERENCE = Path(__file__).parents[1] / "docs" / "reference"


def public_methods(api: type) -> dict[str, object]:
    return {name: member for name, member in inspect.getmembers(api) if not name.startswith("_")}


def words(text: str) -> str:
    """A parameter with the words that differ between threads and tasks made alike."""
    return re.sub(r"Async(?=[A-Z])", "", text).replace("asyncio", "threading")


@pytest.mark.parametrize("package", _PACKAGES, ids=lambda package: package.__name__)
def test_the_exports_are_there(package: ModuleType) -> None:
    assert len(set(package.__all__)) == len(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def test_the_top_level_is_what_most_programs_need() -> None:
    assert len(indelible.__all__) == 40
    for package in _PACKAGES[1:]:
        for name in {*package.__all__} & {*indelible.__all__}:
            assert getattr(package, name) is getattr(indelible, name)


def test_every_error_is_drawn_in_the_tree() -> None:
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


@pytest.mark.parametrize(
    ("sync", "variant"),
    [
        (App, AsyncApp),
        (Consumer, AsyncConsumer),
        (Log, AsyncLog),
        (Background, AsyncBackground),
    ],
)
def test_what_is_written_by_hand_for_threads_and_tasks_has_the_same_methods(
    sync: type, variant: type
) -> None:
    ours, theirs = public_methods(sync), public_methods(variant)
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


@pytest.mark.parametrize("package", _PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_has_a_docstring_and_is_in_the_reference(package: ModuleType) -> None:
    pages = "\n".join(page.read_text("utf-8") for page in _REFERENCE.glob("*.md"))
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
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
