"""Append to streams, and read streams and the log."""

from indelible.events import HeadHolder, HeadInfo

from .info import StreamChange, StreamInfo
from .iterators import StreamEvents
from .iterators_async import AsyncStreamEvents
from .log import Log
from .log_async import AsyncLog

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
