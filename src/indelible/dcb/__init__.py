"""Dynamic Consistency Boundary: decisions and conditions across streams."""

from .decide import Decision
from .decision_model import DecisionModel
from .matching_events import MatchingEvents

__all__ = [
    "Decision",
    "DecisionModel",
    "MatchingEvents",
]
