"""A token of one channel or prefix learns nothing of the rest, on any screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest

from indelible import EventStore, NewEvent, Query

from .conftest import Serve

_ORDER = UUID(int=1)
_SECRET = UUID(int=2)
_STREAM = {"name": "vault-1"}


@pytest.fixture
def shared(store: EventStore) -> EventStore:
    """A store of two services, whose events belong together."""
    common: dict[str, Any] = {"correlation_id": "co-1"}
    store.append(
        "order-1",
        NewEvent("OrderPlaced", {"n": 42}, id=_ORDER, metadata=common, tags=("customer:7",)),
        expected=-1,
    )
    metadata = {**common, "causation_id": str(_ORDER)}
    store.append(
        "vault-1",
        NewEvent(
            "VaultOpened",
            {"n": 42, "vault": "yes"},
            id=_SECRET,
            metadata=metadata,
            tags=("customer:7",),
        ),
        expected=-1,
        channel="vault",
    )
    store.group("vault-group").create(Query(channel="vault"))
    return store


_SCREENS: list[tuple[str, dict[str, Any]]] = [
    ("/", {}),
    ("/streams", {}),
    ("/streams", {"prefix": "vau"}),
    ("/streams", {"channel": "vault"}),
    ("/streams", {"state": "open"}),
    ("/streams", {"tab": "recent"}),
    ("/stream", _STREAM),
    ("/stream", {"name": "vault"}),
    ("/stream", {"name": "order-1"}),
    ("/stream", {"name": "order-1", "pane": "state"}),
    ("/stream/close", _STREAM),
    ("/event", {"id": str(_SECRET)}),
    ("/event", {"position": 2}),
    ("/correlation", {"id": "co-1"}),
    ("/correlation", {"id": "co-1", "view": "list", "event": str(_SECRET)}),
    ("/log", {}),
    ("/log", {"channel": "vault"}),
    ("/log", {"type": "VaultOpened"}),
    ("/log", {"tag": "customer:7"}),
    ("/log", {"prefix": "vau"}),
    ("/log", {"field": "n", "value": "42"}),
    ("/types", {}),
    ("/type", {"type": "VaultOpened"}),
    ("/groups", {}),
    ("/group", {"name": "vault-group"}),
    ("/group/reset", {"name": "vault-group"}),
    ("/projections", {}),
    ("/health", {}),
    ("/about", {}),
    ("/tokens", {}),
    ("/find", {"q": "vault-1"}),
    ("/find", {"q": "vau"}),
    ("/find", {"q": str(_SECRET)}),
    ("/find", {"q": "2"}),
    ("/find/names", {"q": "vau"}),
]


@contextmanager
def _client(store: EventStore, serve: Serve, **rights: Any) -> Iterator[httpx.Client]:
    token = store.create_token("ann", can="read,manage", **rights).text
    headers = {"Accept": "text/html", "Authorization": f"Bearer {token}"}
    address = serve(requires_token=True)
    with httpx.Client(base_url=address, headers=headers, timeout=30) as opened:
        yield opened


@pytest.mark.parametrize("rights", [{"channels": "order"}, {"stream_prefixes": "order-"}])
def test_no_screen_tells_what_a_token_may_not_read(
    shared: EventStore, serve: Serve, rights: dict[str, str]
) -> None:
    with _client(shared, serve, **rights) as client:
        for path, parameters in _SCREENS:
            answer = client.get(path, params=parameters, follow_redirects=True)
            given = " ".join(str(each) for each in parameters.values())
            # What the reader asked for is in the answer; what they did not know is not.
            text = answer.text
            for known in given.split():
                text = text.replace(known, "")
            assert answer.status_code in (200, 404), (path, parameters, answer.text)
            assert "vault" not in text.lower(), (path, parameters)
            assert "VaultOpened" not in text, (path, parameters)
            assert str(_SECRET) not in text, (path, parameters)


def test_what_is_hidden_looks_like_what_does_not_exist(shared: EventStore, serve: Serve) -> None:
    with _client(shared, serve, channels="order") as client:
        for path, hidden, missing in (
            ("/stream", "name=vault-1", "name=vault-9"),
            ("/event", f"id={_SECRET}", f"id={UUID(int=9)}"),
            ("/event", "position=2", "position=977"),
            ("/group", "name=vault-group", "name=vault-gruop"),
            ("/type", "type=VaultOpened", "type=VaultOpenec"),
            ("/correlation", f"id=co-1&event={_SECRET}", f"id=co-1&event={UUID(int=9)}"),
        ):
            one = client.get(f"{path}?{hidden}")
            other = client.get(f"{path}?{missing}")
            assert one.status_code == other.status_code, path
            shown = re.escape(hidden.rpartition("=")[2])
            asked = missing.rpartition("=")[2]
            assert re.sub(rf"\b{shown}\b", asked, _main(one)) == _main(other), path


def _main(answer: httpx.Response) -> str:
    return answer.text.partition("<main")[2]


def test_live_pages_tell_nothing_hidden(shared: EventStore, serve: Serve) -> None:
    with _client(shared, serve, channels="order") as client:
        for path in ("/live/log?after=0", "/live/overview", "/live/groups"):
            with client.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
                assert answer.status_code == 200
                found = ""
                for part in answer.iter_text():
                    found += part
                    if "data:" in found:
                        break
            assert "vault" not in found.lower()
        hidden = client.get("/live/stream", params=_STREAM)
        assert hidden.status_code == 404


def test_a_whole_token_sees_all_of_it(shared: EventStore, serve: Serve) -> None:
    with _client(shared, serve) as client:
        assert "vault-1" in client.get("/streams").text
        assert "VaultOpened" in client.get("/log").text
        assert "vault-1" in client.get("/correlation", params={"id": "co-1"}).text
        assert "vault-group" in client.get("/groups").text
