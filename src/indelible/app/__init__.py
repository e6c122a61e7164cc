"""The application runner: handlers and projections as worker processes."""

from .app import App
from .app_async import AsyncApp

__all__ = [
    "App",
    "AsyncApp",
]
