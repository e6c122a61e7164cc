"""Wait until consumer groups have caught up, without sleeping."""

from __future__ import annotations

import time

from indelible.store import AsyncEventStore, EventStore


def wait_until_caught_up(store: EventStore, *groups: str, timeout: float = 10.0) -> None:
    """Wait until consumer groups have processed all events that are in the log now.

    Args:
        store: the store.
        groups: the names of the groups; without names, all groups.
        timeout: the longest wait in seconds.

    Raises:
        GroupNotFound: a group does not exist.
        WaitTimeout: a group did not catch up in time: it has no worker, or an event blocks it.

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
    """Wait until consumer groups have caught up; see `wait_until_caught_up`."""
    deadline = time.monotonic() + timeout
    position = await store.head()
    for name in groups or [group.name for group in await store.groups()]:
        await store.group(name).wait_for(position, timeout=max(deadline - time.monotonic(), 0))
