"""The fingerprint of a state differs if any code that computes the state differs."""

from __future__ import annotations

import ast
import importlib
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from indelible import Aggregate, Snapshots
from indelible.aggregates.fingerprint import _text
from indelible.aggregates.snapshots import aggregate_serializer, decider_serializer

HEAD = """
from __future__ import annotations
import enum
import functools
from dataclasses import dataclass
from indelible import Aggregate, Snapshots

@dataclass(frozen=True)
class Added:
    number: int

@dataclass(frozen=True)
class Total:
    number: int = 0

"""

TWICE = "def twice(number): return number * {factor}\n"

WAYS = {
    "a module of the same package": """
from . import rules
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + rules.twice(event.number))
""",
    "a function of another module": """
from .rules import twice
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + twice(event.number))
""",
    "a singledispatch handler": """
@functools.singledispatch
def apply(event, total): raise TypeError
@apply.register
def _(event: Added, total): return Total(total.number + event.number * {factor})
def evolve(total: Total, event: Added) -> Total: return apply(event, total)
""",
    "a singledispatch method": """
class Counted(Aggregate[Added]):
    snapshots = Snapshots(every=2)
    number: int = 0
    @functools.singledispatchmethod
    def evolve(self, event): raise TypeError
    @evolve.register
    def _(self, event: Added): self.number += event.number * {factor}
""",
    "a dict of handlers": """
def added(total, event): return Total(total.number + event.number * {factor})
HANDLERS = {{Added: added}}
def evolve(total: Total, event: Added) -> Total: return HANDLERS[type(event)](total, event)
""",
    "a method of an aggregate": """
class Counted(Aggregate[Added]):
    snapshots = Snapshots(every=2)
    number: int = 0
    def evolve(self, event: Added): self.add(event.number)
    def add(self, number): self.number += number * {factor}
""",
    "a base class of an aggregate": """
class Base(Aggregate[Added]):
    number: int = 0
    def evolve(self, event: Added): self.number += event.number * {factor}
class Counted(Base):
    snapshots = Snapshots(every=2)
""",
    "what a base class of an aggregate calls": """
from .rules import twice
class Base(Aggregate[Added]):
    number: int = 0
    def evolve(self, event: Added): self.number += twice(event.number)
class Counted(Base):
    snapshots = Snapshots(every=2)
""",
    "a closure": """
def evolve_by(factor):
    def evolve(total: Total, event: Added) -> Total:
        return Total(total.number + event.number * factor)
    return evolve
evolve = evolve_by({factor})
""",
    "a function with another around it": """
def logged(function):
    @functools.wraps(function)
    def call(*given): return function(*given)
    return call
@logged
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + event.number * {factor})
""",
    "a method of a class within the state": """
@dataclass(frozen=True)
class Money:
    number: int = 0
    def plus(self, number): return Money(self.number + number * {factor})
@dataclass(frozen=True)
class Purse:
    money: Money = Money()
def evolve(purse: Purse, event: Added) -> Purse: return Purse(purse.money.plus(event.number))
""",
    "a method of a class of rules": """
class Rules:
    @staticmethod
    def twice(number): return number * {factor}
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + Rules.twice(event.number))
""",
    "an lru_cache function": """
@functools.lru_cache
def twice(number): return number * {factor}
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + twice(event.number))
""",
    "a dict": """
RATES = {{"usual": {factor}}}
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + RATES["usual"] * event.number)
""",
    "a tuple": """
RATES = ({factor},)
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + RATES[0] * event.number)
""",
    "an Enum": """
class Rate(enum.Enum):
    USUAL = {factor}
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + Rate.USUAL.value * event.number)
""",
}


def fingerprint(code: str, factor: object, folder: Path) -> str:
    """Give the fingerprint that the code has in one release of its package."""
    (folder / "bank").mkdir(parents=True)
    for name, text in {"__init__": "", "rules": TWICE, "accounts": HEAD + code}.items():
        (folder / "bank" / f"{name}.py").write_text(text.format(factor=factor))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        accounts: Any = importlib.import_module("bank.accounts")
    try:
        if hasattr(accounts, "Counted"):
            counted = accounts.Counted
            return aggregate_serializer(counted.snapshots, counted, Aggregate).fingerprint
        state = getattr(accounts, "Purse", accounts.Total)
        return decider_serializer(Snapshots(), accounts.evolve, state).fingerprint
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "bank"]:
            del sys.modules[name]


@pytest.mark.parametrize("way", list(WAYS))
def test_changed_code_is_noticed_where_evolve_reaches_it_by(way: str, tmp_path: Path) -> None:
    twice, thrice, again = (
        fingerprint(WAYS[way], factor, tmp_path / str(number))
        for number, factor in enumerate((2, 3, 2))
    )

    assert twice != thrice
    assert twice == again


EVOLVE = """
def evolve(total: Total, event: Added) -> Total:{added}
    return Total(total.number + event.number)
"""

INVISIBLE = {
    "a comment": ("", "\n    # Money that came in.\n"),
    "a docstring": ("", '\n    """Add."""'),
    "another docstring": ('\n    """Add."""', '\n    """Count."""'),
    "empty lines": ("", "\n\n\n"),
}


@pytest.mark.parametrize("what", list(INVISIBLE))
def test_what_is_not_code_is_not_noticed(what: str, tmp_path: Path) -> None:
    before, after = (
        fingerprint(EVOLVE.replace("{added}", added), 2, tmp_path / str(number))
        for number, added in enumerate(INVISIBLE[what])
    )

    assert before == after


def test_a_docstring_of_the_state_is_not_noticed(tmp_path: Path) -> None:
    evolve = EVOLVE.replace("{added}", "").replace("Total", "Sum")
    state = """
import msgspec
class Sum(msgspec.Struct):{documented}
    number: int = 0
"""
    before, after = (
        fingerprint(
            state.replace("{documented}", text) + evolve + "Purse = Sum", 2, tmp_path / text[-5:-3]
        )
        for text in ('\n    """One."""', '\n    """Two."""')
    )

    assert before == after


def test_only_one_level_of_calls_is_looked_at(tmp_path: Path) -> None:
    code = """
RATE = {factor}
def twice(number): return number * RATE
def evolve(total: Total, event: Added) -> Total:
    return Total(total.number + twice(event.number))
"""

    assert fingerprint(code, 2, tmp_path / "2") == fingerprint(code, 3, tmp_path / "3")


def test_every_version_of_python_writes_a_syntax_tree_alike() -> None:
    code = """
@decorated(1, key="a")
def evolve(total, /, event: Added | None = None, *rest, **options) -> Total:
    match event:
        case Added(number=1 | 2) if f"{total!r:>3} is" "so": return total
        case {"a": [*_]}: pass
    (x := [*rest, *(y async for y in z)][1:, ...])
    return lambda: {**options, "b": not -x ** 2j, "c": b"d"}
"""

    assert (
        sha256(_text(ast.parse(code)).encode()).hexdigest()[:32]
        == "18017e863b579a732cfaf842ac1aafd0"
    )


def test_without_source_the_schemas_and_the_revision_decide() -> None:
    def release(factor: int, number: str = "int") -> str:
        module: Any = ModuleType("typed_in")
        code = HEAD.replace("number: int = 0", f"number: {number} = 0") + EVOLVE
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "typed_in", module)
            exec(code.replace("{added}", f"\n    factor = {factor}"), vars(module))
            return decider_serializer(Snapshots(), module.evolve, module.Total).fingerprint

    assert release(2) == release(3)
    assert release(2) != release(2, "float")


def test_code_whose_file_was_replaced_shares_no_snapshots(tmp_path: Path) -> None:
    """A process that runs the old code must not keep states under the new code's fingerprint."""
    (tmp_path / "replaced.py").write_text(HEAD + EVOLVE.replace("{added}", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        old: Any = importlib.import_module("replaced")
        (tmp_path / "replaced.py").write_text(HEAD + EVOLVE.replace("{added}", "\n    factor = 2"))
        of_old = decider_serializer(Snapshots(), old.evolve, old.Total).fingerprint
        del sys.modules["replaced"]
        importlib.invalidate_caches()
        new: Any = importlib.import_module("replaced")
        of_new = decider_serializer(Snapshots(), new.evolve, new.Total).fingerprint
        del sys.modules["replaced"]

    assert of_old != of_new
