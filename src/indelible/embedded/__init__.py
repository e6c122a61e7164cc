"""Run PostgreSQL from a wheel: the database if no URL is given."""

from .paths import default_folder, is_made, parse_url
from .server import EmbeddedServer, start

__all__ = ["EmbeddedServer", "default_folder", "is_made", "parse_url", "start"]
