"""Dynamic Consistency Boundary (https://dcb.events): decisions across streams."""

from .decide import Decision
from .decision_model import DecisionModel
from .matching_events import MatchingEvents

__all__ = [
    "Decision",
    "DecisionModel",
    "MatchingEvents",
]
