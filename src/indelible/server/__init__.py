"""The HTTP server: a store for services in any language (`indelible serve`)."""

from .application import create_app
from .settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]
