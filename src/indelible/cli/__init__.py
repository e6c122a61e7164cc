"""The command line: `indelible COMMAND`."""

from .main import app, main

__all__ = ["app", "main"]
