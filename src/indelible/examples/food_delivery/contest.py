"""Two threads after the same delivery: one cancels it, the other picks it up.

Both load it, and both decide on the version that they see. One append wins; the other is refused
with `WrongExpectedVersion`, loads what happened meanwhile, and decides anew.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from uuid import UUID

from indelible import EventStore

from .delivery import Delivery, DeliveryRule, change


def cancel_and_pick_up(store: EventStore, delivery_id: UUID, reason: str) -> int:
    """Cancel a delivery and pick it up at once, on two threads.

    Returns:
        How many conflicts were met. At least one: both threads load before either appends.
    """
    both_have_loaded = Barrier(2, timeout=60)
    met = []

    def contend(act: str) -> None:
        rounds = 0

        def decide(delivery: Delivery) -> None:
            nonlocal rounds
            if rounds == 0:
                both_have_loaded.wait()
            else:
                met.append(act)  # this thread was refused, and decides on what it sees now
            rounds += 1
            if act == "cancel":
                delivery.cancel(reason)
            else:
                delivery.pick_up()

        # What is right at first may be against the rules by now: a canceled delivery is not
        # picked up. One that was picked up can still be canceled.
        with suppress(DeliveryRule):
            change(store, delivery_id, decide)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(contend, ("cancel", "pick up")))
    return len(met)
