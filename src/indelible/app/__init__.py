"""The application runner: event handlers and projections in worker processes."""

from .app import App
from .app_async import AsyncApp

__all__ = [
    "App",
    "AsyncApp",
]
