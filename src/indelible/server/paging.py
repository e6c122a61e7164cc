"""Pages with links, and answers of any length with one item per line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from starlette.responses import Response, StreamingResponse

from indelible import InvalidInput
from indelible.events import RecordedEvent

from . import cloudevents, wire
from .parts import PartSize
from .routing import NDJSON, Call, answer

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000

T = TypeVar("T")

Limit = Annotated[int, msgspec.Meta(ge=1, description="At most so many; a page has 1,000 at most.")]


def page_size(call: Call[Any, None], limit: int | None) -> int | None:
    """Return how many events an answer may have.

    Raises:
        InvalidInput: a page would be too large.
    """
    if call.accepts(NDJSON):
        return limit
    if limit is not None and limit > LARGEST_PAGE:
        raise InvalidInput(
            f"limit must be at most {LARGEST_PAGE:,} for a page, not {limit:,}: follow the links,"
            f" or ask for all events with Accept: {NDJSON}"
        )
    return limit or DEFAULT_PAGE


async def streamed(items: AsyncIterator[T], lines: Callable[[list[T]], bytes]) -> Response:
    """Answer with one item per line, in constant memory.

    The first part is read before, so that an error of the request has a status of its own.

    Args:
        items: the items.
        lines: writes some of them as NDJSON.
    """
    size = PartSize()

    async def parts(part: list[T]) -> AsyncIterator[bytes]:
        while part:
            text = lines(part)
            size.note(len(part), len(text))
            del part
            yield text
            part = await _taken(items, size.count)

    return StreamingResponse(parts(await _taken(items, size.count)), media_type=NDJSON)


def page(
    call: Call[Any, None], events: list[RecordedEvent], following: dict[str, int | str] | None
) -> Response:
    """Answer with a page of events.

    Args:
        call: the request.
        events: the events.
        following: the parameters that differ on the next page; None for the last one.
    """
    links = links_of(call, following)
    if call.accepts(cloudevents.BATCH):
        return Response(cloudevents.batch(events), 200, link_header(links), cloudevents.BATCH)
    return answer(
        wire.Page([wire.event_answer(event) for event in events], links), 200, link_header(links)
    )


def links_of(call: Call[Any, None], following: dict[str, int | str] | None) -> wire.Links:
    """Return the links of a page; see `page`."""
    if following is None:
        return wire.Links()
    given = call.request.query_params.multi_items()
    kept = [(key, value) for key, value in given if key not in following]
    return wire.Links(next=f"?{urlencode([*kept, *following.items()], quote_via=quote)}")


def link_header(links: wire.Links) -> dict[str, str]:
    """Return the header with the same links."""
    return {} if links.next is None else {"Link": f'<{links.next}>; rel="next"'}


async def _taken(items: AsyncIterator[T], count: int) -> list[T]:
    part: list[T] = []
    async for item in items:
        part.append(item)
        if len(part) == count:
            break
    return part
