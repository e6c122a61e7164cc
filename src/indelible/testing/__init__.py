"""Tools to test an application: given-when-then, fresh stores, a clock, fault injection.

docs/howto/testing.md describes the fixtures of the pytest plugin. Only the plugin needs pytest.
"""

from .clock import Clock
from .fault_injection import with_lost_connection, with_rival
from .given_when_then import AggregateLike, DeciderLike, Given, Outcome, given
from .temporary_stores import FreshStore, FreshStores, fresh_stores
from .waiting import wait_until_caught_up, wait_until_caught_up_async

__all__ = [
    "AggregateLike",
    "Clock",
    "DeciderLike",
    "FreshStore",
    "FreshStores",
    "Given",
    "Outcome",
    "fresh_stores",
    "given",
    "wait_until_caught_up",
    "wait_until_caught_up_async",
    "with_lost_connection",
    "with_rival",
]
