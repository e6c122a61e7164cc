"""Run PostgreSQL from a wheel: the database if no URL is given."""

from .paths import is_made, parse_url
from .server import EmbeddedServer, start

__all__ = ["EmbeddedServer", "is_made", "parse_url", "start"]
