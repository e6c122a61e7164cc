"""Domain objects: deciders and aggregates, loaded from their streams and changed by commands."""

from .aggregate import Aggregate
from .decider import Decider
from .handling import Handled
from .loading import Loaded
from .snapshots import Snapshots

__all__ = ["Aggregate", "Decider", "Handled", "Loaded", "Snapshots"]
