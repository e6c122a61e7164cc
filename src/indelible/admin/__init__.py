"""Inspect and maintain a store: statistics, event types, epochs."""

from .event_types import TypeCheck, TypeInfo, UnreadableEvent
from .statistics import ChannelStats, StoreStats

__all__ = [
    "ChannelStats",
    "StoreStats",
    "TypeCheck",
    "TypeInfo",
    "UnreadableEvent",
]
