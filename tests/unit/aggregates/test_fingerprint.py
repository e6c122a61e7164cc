"""The shape of a state is another where the code that makes it is, however evolve reaches it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from indelible import Aggregate, Snapshots
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


def shape(code: str, factor: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shape where the code stands in a package, as it is in one release of it."""
    made = {}
    for name, text in {"bank": "", "bank.rules": TWICE, "bank.accounts": HEAD + code}.items():
        module: Any = ModuleType(name)
        module.__package__ = "bank"
        monkeypatch.setitem(sys.modules, name, module)
        if parent := made.get(name.rpartition(".")[0]):
            monkeypatch.setattr(parent, name.rpartition(".")[2], module, raising=False)
        else:
            module.__path__ = []
        exec(text.format(factor=factor), vars(module))
        made[name] = module
    found = made["bank.accounts"]
    if hasattr(found, "Counted"):
        return aggregate_serializer(found.Counted.snapshots, found.Counted, Aggregate).shape
    state = getattr(found, "Purse", found.Total)
    return decider_serializer(Snapshots(), found.evolve, state).shape


@pytest.mark.parametrize("way", list(WAYS))
def test_changed_code_is_noticed_where_evolve_reaches_it_by(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice, thrice, again = (shape(WAYS[way], factor, monkeypatch) for factor in (2, 3, 2))

    assert twice != thrice
    assert twice == again
