"""A store over HTTP: connections, tokens, errors, lost answers, subscriptions that resume."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AsyncEventStore,
    ConnectionLost,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    StreamAppend,
    WrongExpectedVersion,
)
from indelible.errors import (
    ChannelMismatch,
    DatabaseUnreachable,
    DuplicateEvent,
    EventTooLarge,
    NeedsDatabase,
    PermissionDenied,
    ServerBusy,
    StoreClosed,
    StreamClosed,
    StreamNotClosed,
    StreamNotFound,
    TokenRefused,
)
from indelible.remote import AsyncRemoteEventStore, RemoteEventStore
from tests.support.http_server import served
from tests.support.waiting import wait_until

from .conftest import Proxy, Serve


@dataclass(frozen=True)
class Placed:
    dish: str


@pytest.fixture
def store(serve: Serve) -> Iterator[EventStore]:
    with EventStore.connect(serve(), timeout=10) as opened:
        yield opened


def noted(count: int) -> list[NewEvent]:
    return [NewEvent("Noted", {"n": n}) for n in range(count)]


# Connect -------------------------------------------------------------------------------------


def test_a_url_of_http_opens_a_store_over_http(serve: Serve) -> None:
    address = serve()
    with EventStore.connect(address, events=[Placed]) as store:
        assert isinstance(store, RemoteEventStore)
        store.append("order-1", Placed("soup"), expected=NO_STREAM)
        assert [event.data for event in store.read("order-1")] == [Placed("soup")]

    async def use() -> None:
        async with AsyncEventStore.connect(f"{address}/", events=[Placed]) as store:
            assert isinstance(store, AsyncRemoteEventStore)
            assert [event.data async for event in store.read("order-1", Placed)] == [Placed("soup")]

    asyncio.run(use())


def test_the_environment_names_the_server_and_the_token(
    serve: Serve, direct: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDELIBLE_URL", serve(requires_token=True))
    monkeypatch.setenv("INDELIBLE_TOKEN", direct.create_token("me", can="read").text)
    with EventStore.connect() as store:
        assert store.head() == direct.head()


def test_what_needs_the_database_is_refused_with_a_sentence(store: EventStore) -> None:
    with pytest.raises(NeedsDatabase, match="cannot be made over HTTP"), store.transaction():
        pass
    for call in (
        lambda: store.bind(None),
        lambda: store.head_info(),
        lambda: store.projections(),
        lambda: store.tokens(),
        lambda: store.renew_epoch(),
        lambda: store.import_events([]),
    ):
        with pytest.raises(NeedsDatabase):
            call()


@pytest.mark.parametrize(
    ("option", "value"),
    [("inline", ["Names"]), ("schema", "other"), ("migrate", True)],
)
def test_an_option_of_the_database_is_refused(option: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"{option} needs a connection to the database"):
        EventStore.connect("https://127.0.0.1:1", **{option: value})


def test_an_option_of_a_server_needs_its_url(url: str) -> None:
    for option in ({"token": "x"}, {"ca_file": "x"}):
        with pytest.raises(InvalidInput, match="for the URL of a server"):
            EventStore.connect(url, **option)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "https://127.0.0.1:1/shop"])
def test_a_server_that_is_not_there_is_told(address: str) -> None:
    with pytest.raises(DatabaseUnreachable, match="check the URL, and that the server runs"):
        EventStore.connect(address, timeout=0.2)


@pytest.mark.parametrize(
    "wrong", [{"url": "http://127.0.0.1:x"}, {"token": "ü"}, {"ca_file": "none.pem"}]
)
def test_what_is_no_url_token_or_file_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        EventStore.connect(**{"url": "https://127.0.0.1:1", "timeout": 0.2, **wrong})


def test_without_httpx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("indelible.remote")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(InvalidInput, match=r"pip install 'indelible\[remote\]'"):
        EventStore.connect("https://127.0.0.1:1")


def test_a_store_on_the_database_imports_nothing_of_http() -> None:
    code = "import indelible, sys; sys.exit(bool({'httpx', 'indelible.remote'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_closed_store_says_so(serve: Serve) -> None:
    store = EventStore.connect(serve())
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.head()


# Tokens and TLS ------------------------------------------------------------------------------


def test_a_token_that_is_missing_or_wrong_is_told(serve: Serve, direct: EventStore) -> None:
    address = serve(requires_token=True)
    created = direct.create_token("delivery", can="read")
    with pytest.raises(TokenRefused, match="needs a token"):
        EventStore.connect(address)
    with pytest.raises(TokenRefused, match="not known, has expired or was revoked"):
        EventStore.connect(address, token=created.text[:-1] + "_")

    with EventStore.connect(address, token=created.text) as store:
        assert store.head() == 0
        with pytest.raises(PermissionDenied, match="may not append"):
            store.append("a-1", noted(1), expected=ANY)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *names, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    return cert, key


def test_a_certificate_that_signs_itself_is_trusted_if_it_is_named(
    url: str, schema: str, certificate: tuple[Path, Path]
) -> None:
    with served(url, schema, certificate=certificate) as address:
        begun = time.monotonic()
        with pytest.raises(DatabaseUnreachable, match="ca_file="):
            EventStore.connect(address)
        assert time.monotonic() - begun < 20  # it does not try for as long as the timeout
        with EventStore.connect(address, ca_file=certificate[0]) as store:
            store.append("a-1", noted(3), expected=NO_STREAM)
            with store.subscribe() as subscription:
                assert [next(subscription).position for _ in range(3)] == [1, 2, 3]
                stops = threading.Timer(0.1, subscription.stop)
                stops.start()
                assert list(subscription) == []
                stops.join()


# Errors --------------------------------------------------------------------------------------


def told(call: Callable[[], object]) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is compared
        call()
    return caught.value


def test_errors_have_the_class_and_the_facts_that_they_have_at_the_database(
    serve: Serve, direct: EventStore
) -> None:
    first = direct.append("a-1", noted(2), expected=NO_STREAM)
    known = uuid4()
    direct.append("c-1", NewEvent("Noted", {}, id=known), expected=NO_STREAM)
    direct.close_stream("c-1", expected=0)
    large = NewEvent("Noted", "x" * 2**20)

    with EventStore.connect(serve(), max_event_bytes=2**22) as store:
        calls: dict[type, Callable[[EventStore], object]] = {
            WrongExpectedVersion: lambda s: s.append("a-1", noted(1), expected=7),
            ChannelMismatch: lambda s: s.append("a-1", noted(1), expected=ANY, channel="x"),
            DuplicateEvent: lambda s: s.append(
                "b-1", NewEvent("Noted", {}, id=known), expected=ANY
            ),
            StreamClosed: lambda s: s.append("c-1", noted(1), expected=ANY),
            StreamNotFound: lambda s: list(s.read("never", must_exist=True)),
            StreamNotClosed: lambda s: s.archive_stream("a-1"),
            EventTooLarge: lambda s: s.append("a-1", large, expected=ANY),
        }
        for kind, call in calls.items():
            there, here = told(lambda: call(direct)), told(lambda: call(store))  # noqa: B023
            assert type(here) is type(there) is kind
            assert str(here) == str(there)
            assert vars(here) == vars(there)
        many = told(
            lambda: store.append_many(
                [
                    StreamAppend("a-1", [], 9),
                    StreamAppend("z-1", [], 4),
                    StreamAppend("y-1", [], ANY),
                ]
            )
        )
        assert [(one.stream, one.actual) for one in many.conflicts] == [("a-1", 1), ("z-1", -1)]
        assert many.last_recorded_at == first.recorded_at


# Lost answers, and servers that are busy -----------------------------------------------------


def test_an_append_whose_answer_is_lost_is_stored_once(proxy: Proxy, direct: EventStore) -> None:
    with EventStore.connect(proxy.url, timeout=10) as store:
        proxy.swallows = 1
        result = store.append("a-1", noted(2), expected=NO_STREAM)
    assert proxy.swallows == 0
    assert (result.version, result.idempotent) == (1, True)
    assert [event.data["n"] for event in direct.read("a-1")] == [0, 1]


def test_an_append_whose_outcome_stays_unknown_names_its_events(
    proxy: Proxy, direct: EventStore
) -> None:
    event = NewEvent("Noted", {})
    with EventStore.connect(proxy.url, timeout=0.5) as store:
        proxy.swallows = 1_000
        with pytest.raises(ConnectionLost) as caught:
            store.append("a-1", event, expected=NO_STREAM)
    assert caught.value.event_ids == (event.id,)
    assert [one.id for one in direct.read("a-1")] == [event.id]


class Stub(ThreadingHTTPServer):
    """A server with fixed answers."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answers = list(answers)
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        answers = self.server.answers
        status, headers, body = answers[min(self.server.asked, len(answers) - 1)]
        self.server.asked += 1
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[Stub]:
    with Stub(*answers) as stub:
        thread = threading.Thread(target=stub.serve_forever)
        thread.start()
        yield stub
        stub.shutdown()
        thread.join()


BUSY = 503, {"Retry-After": "1"}, b'{"type": "urn:indelible:unavailable", "detail": "later"}'
HEAD = 200, {}, b'{"position": "0", "epoch": "%s", "event_id": null}' % str(uuid4()).encode()


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    with answering(BUSY, HEAD) as stub:
        begun = time.monotonic()
        with EventStore.connect(stub.url, timeout=30) as store:
            assert stub.asked == 2
            assert time.monotonic() - begun >= 1
            assert store.head() == 0


def test_a_server_that_stays_busy_is_an_error_when_the_time_is_over() -> None:
    busy = 503, {}, BUSY[2]
    with answering(busy) as stub:
        with pytest.raises(ServerBusy, match="later"):
            EventStore.connect(stub.url, timeout=0.3)
        assert stub.asked > 1


@pytest.mark.parametrize(
    "answer", [(200, {}, b"<html>"), (404, {}, b"nothing"), (301, {"Location": "/x"}, b"")]
)
def test_what_is_no_server_of_ours_is_told(answer: Any) -> None:
    with answering(answer) as stub, pytest.raises(DatabaseUnreachable, match="check the URL"):
        EventStore.connect(stub.url)


# Reading -------------------------------------------------------------------------------------


def test_a_log_is_read_up_to_the_head_of_its_beginning(
    store: EventStore, direct: EventStore
) -> None:
    direct.append("a-1", noted(250), expected=NO_STREAM)
    log = store.read_all(Query(stream="a-1"))
    first = next(log)
    direct.append("a-1", noted(1), expected=249)

    assert log.head == 250
    assert [first.version, *(event.version for event in log)] == list(range(250))
    backwards = store.read_all(backwards=True, limit=220)
    assert [event.position for event in backwards] == list(range(251, 31, -1))


@pytest.mark.parametrize(
    "name", [".", "..", "a/b", "a/../b", "%41", "%2F", "?x#y", "ä 😀", "+", ":"]
)
def test_the_name_of_a_stream_is_any_text(store: EventStore, name: str) -> None:
    store.append(name, noted(2), expected=NO_STREAM, channel="c")
    found = store.stream(name)
    assert found is not None
    assert (found.stream, found.version) == (name, 1)
    assert [event.stream for event in store.read(name)] == [name] * 2
    assert store.close_stream(name, expected=1).closed_at is not None
    assert [change.operation for change in store.stream_changes(name)] == ["close"]


def test_a_wait_for_a_reader_ends_when_it_is_there(store: EventStore, direct: EventStore) -> None:
    direct.group("mails").create()
    position = store.append("a-1", noted(1), expected=NO_STREAM).position
    assert store.wait_for("mails", 0, timeout=0) == 0
    with pytest.raises(TimeoutError, match=f"did not reach position {position} in 0.2 s"):
        store.wait_for("mails", position, timeout=0.2)


# Subscriptions -------------------------------------------------------------------------------


def test_a_subscription_continues_after_a_lost_connection(proxy: Proxy, direct: EventStore) -> None:
    direct.append("a-1", noted(50), expected=NO_STREAM)
    with EventStore.connect(proxy.url) as store, store.subscribe() as subscription:
        found = [next(subscription).position for _ in range(20)]
        for _ in range(5):
            proxy.cut()
            direct.append("a-1", noted(10), expected=ANY)
            found += [next(subscription).position for _ in range(10)]
        found += [next(subscription).position for _ in range(30)]
    assert found == list(range(1, 101))


def test_an_async_subscription_continues_after_a_lost_connection(
    proxy: Proxy, direct: EventStore
) -> None:
    async def follow() -> list[int]:
        async with (
            AsyncEventStore.connect(proxy.url) as store,
            store.subscribe(after="head") as subscription,
        ):
            found = []
            for _ in range(5):
                proxy.cut()
                await asyncio.to_thread(direct.append, "a-1", noted(10), expected=ANY)
                found += [(await anext(subscription)).position for _ in range(10)]
            return found

    direct.append("a-1", noted(5), expected=NO_STREAM)
    assert asyncio.run(follow()) == list(range(6, 56))


def test_a_subscription_survives_a_restart_of_the_server(
    url: str, schema: str, direct: EventStore
) -> None:
    first = ExitStack()
    address = first.enter_context(served(url, schema))
    port = int(address.rpartition(":")[2])
    with EventStore.connect(address) as store, store.subscribe() as subscription:
        direct.append("a-1", noted(1), expected=NO_STREAM)
        assert next(subscription).position == 1
        first.close()
        direct.append("a-1", noted(1), expected=ANY)
        with served(url, schema, port=port):
            assert next(subscription).position == 2


def test_the_place_of_a_subscription_moves_over_events_that_do_not_match(
    store: EventStore, direct: EventStore
) -> None:
    direct.append("a-1", noted(3), expected=NO_STREAM)
    with store.subscribe(Query(types=["Other"])) as subscription:
        batches = subscription.batches()
        wait_until(lambda: next(batches).position == 3)
        direct.append("a-1", noted(4), expected=ANY)
        wait_until(lambda: next(batches).position == 7)
    assert subscription.position == 7


def test_a_subscription_ends_at_once_when_another_thread_stops_it(store: EventStore) -> None:
    with store.subscribe() as subscription:
        begun = time.monotonic()
        thread = threading.Thread(target=list, args=(subscription,))
        thread.start()
        assert subscription.wait_until_caught_up(10)
        subscription.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert time.monotonic() - begun < 10


def test_a_subscription_whose_token_is_revoked_ends_with_an_error(
    url: str, schema: str, direct: EventStore
) -> None:
    with served(url, schema, requires_token=True) as address:
        proxy = Proxy(address)
        token = direct.create_token("me", can="read")
        with EventStore.connect(proxy.url, token=token.text) as store, store.subscribe() as found:
            direct.append("a-1", noted(1), expected=NO_STREAM)
            assert next(found).position == 1
            direct.revoke_token(token.info.id)

            def ask() -> bool:
                try:
                    store.head()
                except TokenRefused:
                    return True
                return False

            wait_until(ask)
            proxy.cut()
            with pytest.raises(TokenRefused):
                next(found)
        proxy.close()
