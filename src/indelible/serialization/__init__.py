"""Convert events to and from JSON: event classes, checks, upcasting."""

from .upcasting import Upcaster

__all__ = [
    "Upcaster",
]
