"""Health and about: checks with their remedies, and what this server is."""

from __future__ import annotations

import tempfile
import tomllib
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible import EventStore, NewEvent, embedded
from indelible.admin.health import StoreHealth
from indelible.events import HeadHolder
from indelible.postgres.migrations import newest_version
from indelible.server import ServerSettings
from indelible.server.web import health
from indelible.server.web.about import settings_of
from indelible.server.web.sampler import Sample
from tests.support.served import served
from tests.support.waiting import wait_until

from .conftest import Serve
from .screens import HOSTILE

GOOD = StoreHealth(
    server_version="18.1",
    clock=datetime(2026, 12, 1, tzinfo=UTC),
    schema_version=newest_version(),
    function_set=1,
    head=10,
    last_position=10,
    bytes=2**30,
    holders=(),
)


def failing(found: StoreHealth, seconds: float = 0.01, apart: float = 0.0) -> dict[str, str]:
    return {
        check.name: check.value
        for check in health.of_store(found, seconds, timedelta(seconds=apart))
        if check.kind != "ok"
    }


def replaced(**values: Any) -> StoreHealth:
    return StoreHealth(
        **{**{name: getattr(GOOD, name) for name in StoreHealth.__slots__}, **values}
    )


def test_a_good_store_fails_no_check() -> None:
    assert not failing(GOOD)


@pytest.mark.parametrize(
    ("found", "seconds", "apart", "name"),
    [
        (GOOD, 0.6, 0.0, "Database"),
        (replaced(schema_version=newest_version() - 1), 0.01, 0.0, "Schema"),
        (GOOD, 0.01, -3.0, "Clock"),
        (
            replaced(
                head=4, holders=(HeadHolder(411, "billing", "idle in transaction", 12.0, "SELECT"),)
            ),
            0.01,
            0.0,
            "Head",
        ),
    ],
)
def test_each_check_can_fail(found: StoreHealth, seconds: float, apart: float, name: str) -> None:
    assert list(failing(found, seconds, apart)) == [name]


def test_a_held_head_names_who_holds_it_and_how_to_end_it() -> None:
    held = replaced(
        head=4, holders=(HeadHolder(411, "billing", "idle in transaction", 12.0, "SELECT 1"),)
    )
    (check,) = [check for check in health.of_store(held, 0.01, timedelta()) if check.name == "Head"]
    assert "process 411 (billing, idle in transaction)" in check.value
    assert "6 positions behind it" in check.value
    assert check.command == "SELECT pg_terminate_backend(411);"


def test_what_was_not_counted_yet_is_not_called_well() -> None:
    sample = Sample(datetime.now(UTC))
    assert {check.kind for check in health.of_readers(sample)} == {"idle"}


def test_failures_come_first_with_what_to_do(site: httpx.Client, store: EventStore) -> None:
    assert "All checks are well" in site.get("/health").text
    store.append("order-1", NewEvent("Placed", {}), expected=-1)
    group = store.group(f"billing{HOSTILE}")
    group.create(max_attempts=1)
    with group.consume() as consumer:
        for event in consumer:
            with suppress(ValueError), event:
                raise ValueError
            break
    wait_until(
        lambda: "then replay them" in site.get("/health").text
    )  # readers are counted every 5 seconds
    answer = site.get("/health")
    rows = answer.text.split('<th scope="row">')
    assert rows[1].startswith("Parked events")
    assert "then replay them" in rows[1]
    assert "<img" not in answer.text
    assert "1 check needs" in answer.text


def test_about_tells_versions_epoch_settings_and_licences(
    site: httpx.Client, store: EventStore
) -> None:
    text = site.get("/about").text
    assert str(store.epoch()) in text
    assert "PostgreSQL" in text
    vendored = files("indelible.server.web") / "static" / "vendor" / "vendor.toml"
    for each in tomllib.loads(vendored.read_text("utf-8"))["file"]:
        assert each["name"] in text
        assert each["licence"] in text
    assert "Permission to use, copy, modify" in text  # the licence of htmx, in full


def test_about_tells_no_password() -> None:
    settings = settings_of(ServerSettings(url="postgresql://shop:secret@db/shop"))
    assert not any("secret" in value for value in settings.values())
    assert settings["port"] == "7373"


@pytest.mark.parametrize("path", ["/health", "/about"])
def test_a_token_for_a_part_of_the_store_sees_neither(
    serve: Serve, store: EventStore, path: str
) -> None:
    address = serve(requires_token=True)
    for rights, status in (({"channels": ["order"]}, 404), ({}, 200)):
        token = store.create_token("someone", can=["read"], **rights).text  # type: ignore[arg-type]
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}
        assert httpx.get(address + path, headers=headers, timeout=30).status_code == status


def test_a_database_that_is_away_is_a_failed_check() -> None:
    with tempfile.TemporaryDirectory(prefix="indelible-away-") as folder:
        Path(folder).chmod(0o755)  # the server's account may be another one
        with closing(embedded.start(Path(folder) / "postgres")) as server:
            EventStore.connect(server.url, schema="indelible", migrate=True).close()
            with served(server.url, "indelible") as address:
                assert "away" not in httpx.get(f"{address}/health", timeout=30).text
                server.close()
                wait_until(lambda: "away" in httpx.get(f"{address}/health", timeout=30).text)
