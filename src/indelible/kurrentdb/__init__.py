"""A server for the clients of KurrentDB (EventStoreDB), on a store. `indelible kurrentdb` runs it.

The handlers take and return messages, and know nothing of the library that carries them:
`transport.py` alone does.
"""

from .settings import KurrentSettings

__all__ = ["KurrentSettings"]
