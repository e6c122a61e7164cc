"""Two threads after the same delivery: one cancels it, the other picks it up.

Both load it, and both decide on the version that they see. One append wins; the other is refused,
and `handle` reads what happened meanwhile and decides anew.
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
    """Cancel a delivery and pick it up at once, on two threads.

    Returns:
        How many conflicts were met. At least one: both threads load before either appends.
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
                met.append(act)  # this thread was refused, and decides on what it sees now
            is_first = False
            act(delivery)

        # What is right at first may be against the rules by now: a canceled delivery is not
        # picked up. One that was picked up can still be canceled.
        with suppress(DeliveryRule):
            store.handle(stream_of(delivery_id), Delivery, command)

    with ThreadPoolExecutor(2) as threads:
        acts = [lambda delivery: delivery.cancel(reason), Delivery.pick_up]
        list(threads.map(contend, acts))
    return len(met)
