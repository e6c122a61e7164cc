"""Aggregates and deciders: domain objects that are loaded from streams and handle commands."""

from .aggregate import Aggregate
from .command_handler import CommandResult
from .decider import Decider
from .snapshots import Snapshots
from .state_loader import LoadedState

__all__ = [
    "Aggregate",
    "CommandResult",
    "Decider",
    "LoadedState",
    "Snapshots",
]
