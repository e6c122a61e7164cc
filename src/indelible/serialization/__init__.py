"""Events as JSON: event classes, checks, upcasting."""

from .upcasting import Upcaster

__all__ = [
    "Upcaster",
]
