"""Consumer groups: durable subscriptions that several workers share."""

from .consumer import Consumer
from .consumer_async import AsyncConsumer
from .delivered_event import DeliveredEvent
from .delivery import Delivery
from .delivery_async import AsyncDelivery
from .group import Group
from .group_async import AsyncGroup
from .types import GroupInfo, GroupSettings, GroupWorker, ParkedEvent

__all__ = [
    "AsyncConsumer",
    "AsyncDelivery",
    "AsyncGroup",
    "Consumer",
    "DeliveredEvent",
    "Delivery",
    "Group",
    "GroupInfo",
    "GroupSettings",
    "GroupWorker",
    "ParkedEvent",
]
