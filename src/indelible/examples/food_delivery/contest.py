"""Optimistic concurrency: one thread cancels a delivery while another picks it up.

Both threads load the delivery and decide based on the same version. One append succeeds; the other
is rejected. `handle` then reads the newer events and decides again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from uuid import UUID

from indelible import EventStore

from .delivery import Delivery, DeliveryRule, stream_of


def cancel_and_pick_up(store: EventStore, delivery_id: UUID, reason: str) -> int:
    """Cancel a delivery and pick it up at the same time, in two threads.

    Returns:
        The number of conflicts. It is at least one, because both threads load before either
        appends.
    """
    both_have_loaded = Barrier(2, timeout=60)
    met = []

    def contend(act: Callable[[Delivery], None]) -> None:
        is_first = True

        def command(delivery: Delivery) -> None:
            nonlocal is_first
            if is_first:
                both_have_loaded.wait()
            else:
                met.append(act)  # the append of this thread was rejected, and it decides again
            is_first = False
            act(delivery)

        # The second decision may break a rule: a canceled delivery cannot be picked up. A
        # delivery that was picked up can still be canceled.
        with suppress(DeliveryRule):
            store.handle(stream_of(delivery_id), Delivery, command)

    with ThreadPoolExecutor(2) as threads:
        acts = [lambda delivery: delivery.cancel(reason), Delivery.pick_up]
        list(threads.map(contend, acts))
    return len(met)
