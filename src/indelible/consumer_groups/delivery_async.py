"""The async variant of a delivery."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, TypeVar

from indelible.events import RecordedEvent
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.transaction_async import AsyncBoundEngine

from .delivery import DeliveredEvent, Delivery
from .progress import InFlightEvent
from .worker import Worker, finish

Bound = TypeVar("Bound")


class AsyncDelivery(DeliveredEvent, Generic[Bound]):
    """An event of a consumer group, for `async` code; see `DeliveredEvent`.

    It is entered with `with`, since saying how it went waits for nothing.
    """

    def __init__(
        self,
        item: InFlightEvent,
        event: RecordedEvent,
        tell: Callable[[InFlightEvent], None],
        verdicts: deque[InFlightEvent],
        engine: AsyncPoolEngine,
        worker: Worker,
        bind: Callable[[AsyncBoundEngine], Bound],
    ) -> None:
        super().__init__(item, event, tell, verdicts)
        self._engine = engine
        self._worker = worker
        self._bind = bind

    def transaction(self) -> AbstractAsyncContextManager[Bound]:
        return self._transaction()

    transaction.__doc__ = Delivery.transaction.__doc__

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Bound]:
        async with self._engine.transaction() as engine:
            yield self._bind(engine)
            self._check_unsaid()
            await engine.run(finish(self._worker, self._item))
        self._say("settled")
