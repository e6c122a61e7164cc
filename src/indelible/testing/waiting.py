"""Wait until readers have caught up, without sleeping."""

from __future__ import annotations

import time

from indelible.store import AsyncEventStore, EventStore


def wait_until_caught_up(store: EventStore, *groups: str, timeout: float = 10.0) -> None:
    """Wait until consumer groups have handled all that is in the log now.

    Args:
        store: the store.
        groups: their names; without any, all that there are.
        timeout: seconds to wait at most.

    Raises:
        GroupNotFound: there is no such group.
        WaitTimeout: one did not come as far: nobody works for it, or an event holds it back.

    Example:
        ```python
        event_store.append("order-17", OrderCreated(), expected=NO_STREAM)
        wait_until_caught_up(event_store, "mails")
        assert mails == ["order-17"]
        ```
    """
    deadline = time.monotonic() + timeout
    position = store.head()
    for name in groups or [group.name for group in store.groups()]:
        store.group(name).wait_for(position, timeout=max(deadline - time.monotonic(), 0))


async def wait_until_caught_up_async(
    store: AsyncEventStore,
    *groups: str,
    timeout: float = 10.0,  # noqa: ASYNC109 - the same as in the other variant
) -> None:
    """Wait until consumer groups have handled what is there; see `wait_until_caught_up`."""
    deadline = time.monotonic() + timeout
    position = await store.head()
    for name in groups or [group.name for group in await store.groups()]:
        await store.group(name).wait_for(position, timeout=max(deadline - time.monotonic(), 0))
