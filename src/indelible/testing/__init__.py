"""What tests of an application need: given-when-then, fresh stores, a clock, failures.

The fixtures of the plugin for pytest are told in docs/howto/testing.md. Nothing here
needs pytest but the plugin itself.
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
