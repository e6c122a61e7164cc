"""Limits of this process: requests per second, event streams of a principal, body of a request."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

from indelible.access import Principal

from .problems import Problem

_MOST_BUCKETS = 10_000
_ROUNDING = 1e-9


class RateLimit:
    """A token bucket per key, in memory: so many requests in a time, and as many at once.

    A full bucket is the same as none. So only the time at which it is full again is kept.

    Args:
        rate: requests in the time; 0 for no limit.
        seconds: the time.
        what: what is limited, for the message.
    """

    def __init__(self, rate: int, seconds: float = 1.0, what: str = "requests in a second") -> None:
        self._rate = rate
        self._seconds = seconds
        self._what = what
        self._cost = seconds / rate if rate else 0.0
        self._full_at: dict[str, float] = {}

    def take(self, key: str) -> None:
        """Take a request from the bucket.

        Raises:
            Problem: it is empty.
        """
        if not self._cost:
            return
        now = time.monotonic()
        until_full = max(self._full_at.get(key, now) - now, 0.0)
        seconds = until_full + self._cost - self._seconds
        if seconds > _ROUNDING:
            problem = Problem(
                429,
                "too-many-requests",
                f"more than {self._rate:,} {self._what}: send the request again later"
                " (Retry-After)",
            )
            problem.headers["Retry-After"] = str(ceil(seconds))
            raise problem
        if len(self._full_at) > _MOST_BUCKETS:
            self._full_at = {kept: at for kept, at in self._full_at.items() if at > now}
        self._full_at[key] = now + until_full + self._cost


def place_of(address: str) -> str:
    """Return the key of an address: of IPv6, a client has a whole network of 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))


class EventStreams:
    """The event streams of this process: each lasts at most as long as the rights of its client.

    Args:
        most: how many a principal may have at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[asyncio.Task[Any], Principal] = {}
        self._counts: Counter[str] = Counter()
        self._ended: set[asyncio.Task[Any]] = set()

    def enter(self, task: asyncio.Task[Any], principal: Principal) -> None:
        """Add a stream.

        Args:
            task: the task that serves its request.
            principal: who gets it.

        Raises:
            Problem: the principal has too many.
        """
        if self._counts[principal.name] >= self._most:
            problem = Problem(
                429,
                "too-many-streams",
                f"{principal.name} has {self._most:,} event streams, which is the limit",
            )
            problem.headers["Retry-After"] = "1"
            raise problem
        self._open[task] = principal
        self._counts[principal.name] += 1

    def leave(self, task: asyncio.Task[Any]) -> bool:
        """Remove the stream of a task, if it has one.

        Returns:
            Whether it was ended because its client has lost its rights.
        """
        principal = self._open.pop(task, None)
        if principal is not None:
            self._counts[principal.name] -= 1
        was_ended = task in self._ended
        self._ended.discard(task)
        return was_ended

    async def end_invalid(
        self, find_valid: Callable[[set[str], set[str]], Awaitable[set[str]]]
    ) -> None:
        """End the streams of tokens and sessions that are not valid any more.

        Args:
            find_valid: returns which of some ids of tokens and hashes of sessions are valid.
        """
        tokens = {who.token_id for who in self._open.values() if who.token_id and not who.session}
        sessions = {who.session for who in self._open.values() if who.session}
        if not tokens and not sessions:
            return
        gone = (tokens | sessions) - await find_valid(tokens, sessions)
        for task, principal in self._open.items():
            if task not in self._ended and (principal.session or principal.token_id) in gone:
                self._ended.add(task)
                task.cancel()


class Body:
    """The body of a request, which must arrive within limits of size and time.

    Args:
        receive: receives the next part.
        has_body: whether there is one.
        most: the limit, in bytes.
        seconds: how long it may take in total.
    """

    def __init__(
        self, receive: Callable[[], Awaitable[Any]], has_body: bool, most: int, seconds: float
    ) -> None:
        self._receive = receive
        self._most = most
        self._ends_at = asyncio.get_running_loop().time() + seconds
        self._taken = 0
        self.is_complete = not has_body

    async def receive(self) -> Any:
        """Receive the next part.

        Raises:
            Problem: it is too large or too slow, or the client has left.
        """
        if self.is_complete:  # then this waits until the client leaves
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends_at):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                408, "too-slow", "the body did not arrive in time: send the request again"
            ) from None
        if message["type"] == "http.disconnect":
            raise Problem(400, "bad-request", "the client left before the body had arrived")
        self._taken += len(message.get("body", b""))
        if self._taken > self._most:
            raise too_large(self._most)
        self.is_complete = not message.get("more_body", False)
        return message


def too_large(most: int) -> Problem:
    """Return the problem of a body over the limit."""
    return Problem(
        413, "too-large", f"the body is over the limit of {most:,} bytes", limit=str(most)
    )
