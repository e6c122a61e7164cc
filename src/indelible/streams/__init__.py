"""Append to streams, and read streams and the log."""

from indelible.events import HeadHolder, HeadInfo

from .info import StreamChange, StreamInfo
from .iterators import Log, StreamEvents
from .iterators_async import AsyncLog, AsyncStreamEvents

__all__ = [
    "AsyncLog",
    "AsyncStreamEvents",
    "HeadHolder",
    "HeadInfo",
    "Log",
    "StreamChange",
    "StreamEvents",
    "StreamInfo",
]
