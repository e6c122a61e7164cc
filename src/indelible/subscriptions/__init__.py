"""Follow the log: catch-up first, then live."""

from .log_follower import Batch
from .subscription import Subscription
from .subscription_async import AsyncSubscription

__all__ = [
    "AsyncSubscription",
    "Batch",
    "Subscription",
]
