"""Subscribe: methods of the async store."""

from __future__ import annotations

from indelible.consumer_groups import admin
from indelible.consumer_groups.types import GroupInfo
from indelible.core.operation import documented_as
from indelible.errors import InvalidInput
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.query import Query
from indelible.subscriptions.log_follower import LogFollower, Start
from indelible.subscriptions.subscription_async import AsyncSubscription
from indelible.subscriptions.valid_time_follower import ValidTimeFollower
from indelible.subscriptions.wait_async import wait_for_async

from . import checkpoints
from .base import NOT_IN_A_TRANSACTION
from .base_async import AsyncStoreBase
from .subscriptions import SubscriptionMethods


@documented_as(SubscriptionMethods)
class AsyncSubscriptionMethods(AsyncStoreBase):
    """The part of an `AsyncEventStore` that follows the log."""

    def subscribe(
        self, query: Query | None = None, *, after: Start = 0, due: bool = False
    ) -> AsyncSubscription:
        if not isinstance(self._engine, AsyncPoolEngine) or self._wakeup is None:
            raise InvalidInput(NOT_IN_A_TRANSACTION)
        following = (ValidTimeFollower if due else LogFollower)(
            self._writing.codec, query, after=after
        )
        return AsyncSubscription(self._engine, self._wakeup.watch, following)

    async def groups(self) -> list[GroupInfo]:
        return await self._engine.run(admin.infos(self._writing.codec))

    async def wait_for(self, reader: str, position: int, timeout: float = 10.0) -> int:  # noqa: ASYNC109
        return await wait_for_async(
            self._pool,
            lambda: checkpoints.reader_checkpoint(reader, position),
            reader,
            position,
            timeout,
        )
