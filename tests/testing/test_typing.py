"""The results of a type checker for deciders, aggregates and stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).parents[2]

_EVENTS = """
from dataclasses import dataclass
from typing import assert_never
from indelible import Aggregate, Decider, EventStore

@dataclass(frozen=True)
class Opened:
    owner: str

@dataclass(frozen=True)
class Closed:
    reason: str

Event = Opened | Closed

@dataclass(frozen=True)
class Close:
    reason: str

@dataclass(frozen=True)
class State:
    is_open: bool = False
"""
_COMPLETE = """
def decide(command: Close, state: State) -> list[Closed]:
    return [Closed(command.reason)] if state.is_open else []

def evolve(state: State, event: Event) -> State:
    match event:
        case Opened():
            return State(is_open=True)
        case Closed():
            return State(is_open=False)
        case _:
            assert_never(event)

class Account(Aggregate[Event]):
    is_open = False

    def close(self, reason: str) -> None:
        self.record(Closed(reason))

    def evolve(self, event: Event) -> None:
        match event:
            case Opened():
                self.is_open = True
            case Closed():
                self.is_open = False
            case _:
                assert_never(event)

def use(store: EventStore) -> bool:
    store.handle("account-1", Account, lambda account: account.close("moved"))
    return store.handle("account-1", Decider(decide, evolve, State), Close("moved")).state.is_open
"""


def test_a_match_over_the_events_is_checked_for_what_is_missing(tmp_path: Path) -> None:
    # Replacements in the code, and the resulting errors.
    variants = {
        "complete": ("", "", ""),
        "missing": (
            "        case Closed():\n            return State(is_open=False)\n",
            "",
            "Closed",
        ),
        "missing_too": (
            "            case Opened():\n                self.is_open = True\n",
            "",
            "Opened",
        ),
        "command": ('Close("moved")).state', "3).state", "type parameter"),
        "event": ("self.record(Closed(reason))", "self.record(Close(reason))", '"Close"'),
    }
    for name, (given, instead, _) in variants.items():
        assert given in _COMPLETE
        text = _EVENTS + _COMPLETE.replace(given, instead)
        (tmp_path / f"{name}.py").write_text(text, "utf-8")

    found = _checked(tmp_path, variants)

    for name, (_, _, told) in variants.items():
        lines = found[name]
        assert bool(lines) == (name != "complete"), found
        assert told in "".join(lines)


_STORES = """
from indelible import AsyncEventStore, AsyncTransactionStore, EventStore, TransactionStore
from indelible.store import EventStoreProtocol
from indelible.store import AsyncEventStoreProtocol
"""


def test_a_store_keeps_its_protocol_and_a_transaction_is_less(tmp_path: Path) -> None:
    # Uses of stores, and the resulting errors.
    variants = {
        "sync": ("def f(store: EventStore) -> EventStoreProtocol: return store", ""),
        "async": ("def f(store: AsyncEventStore) -> AsyncEventStoreProtocol: return store", ""),
        "other": (
            "def f(store: AsyncEventStore) -> EventStoreProtocol: return store",
            'expected "EventStoreProtocol"',
        ),
        "less": (
            "def f(store: TransactionStore) -> EventStoreProtocol: return store",
            'expected "EventStoreProtocol"',
        ),
        "call": (
            "def f(store: TransactionStore) -> object: return store.subscribe()",
            'has no attribute "subscribe"',
        ),
        "awaited": (
            "async def f(store: AsyncTransactionStore) -> object:\n"
            "    return await store.import_events([])",
            'has no attribute "import_events"',
        ),
        "subclass": (
            "class Own(EventStore):\n    pass\ndef f() -> Own: return Own.connect()",
            "",
        ),
        "entered": (
            "class Own(AsyncEventStore):\n    pass\n"
            "async def f() -> Own:\n"
            "    async with Own.connect() as store:\n        return store\n"
            "async def g() -> Own: return await Own.connect()",
            "",
        ),
    }
    for name, (code, _) in variants.items():
        (tmp_path / f"{name}.py").write_text(f"{_STORES}\n{code}\n", "utf-8")

    found = _checked(tmp_path, variants)

    for name, (_, told) in variants.items():
        assert bool(found[name]) == bool(told), found
        assert told in "".join(found[name])


def _checked(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """What mypy says of each module."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--hide-error-context"),
            *("--follow-imports=silent", f"--cache-dir={_ROOT / '.mypy_cache' / 'examples'}"),
            *(f"{name}.py" for name in names),
        ],
        cwd=folder,
        env={"MYPYPATH": str(_ROOT / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    return {name: [line for line in lines if line.startswith(f"{name}.py:")] for name in names}
