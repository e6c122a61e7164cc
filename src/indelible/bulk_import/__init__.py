"""Import many events, such as those of another store."""

from .types import ImportEvent, ImportResult

__all__ = [
    "ImportEvent",
    "ImportResult",
]
