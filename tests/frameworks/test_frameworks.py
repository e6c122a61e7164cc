"""Stores bound to connections of frameworks: a rollback of the framework removes the events."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from indelible import ANY, AsyncEventStore, DocumentProjection, EventStore, NewEvent, handles


class Counts(DocumentProjection[dict]):
    name = "counts"

    @handles("Counted")
    def counted(self, document: dict | None, event: object) -> dict:
        return {"count": (document or {"count": 0})["count"] + 1}


COUNTED = NewEvent("Counted", {})


def sqlalchemy_url(url: str) -> str:
    return "postgresql+psycopg://" + url.split("://", 1)[1]


@pytest.mark.parametrize("begins", ["append", "select"])
def test_a_session_of_sqlalchemy_keeps_its_transaction(url: str, schema: str, begins: str) -> None:
    engine = create_engine(sqlalchemy_url(url))
    with EventStore.connect(url, schema=schema, inline=[Counts]) as store:
        for ends in ("rollback", "commit"):
            with Session(engine) as session:
                if begins == "select":
                    session.execute(text("SELECT 1"))
                own = session.connection().connection.driver_connection
                store.bind(own).append("a", COUNTED, expected=ANY)
                assert store.stream("a") is None
                getattr(session, ends)()
        assert len(list(store.read("a"))) == 1
        assert store.documents(Counts).read("a") == {"count": 1}
    engine.dispose()


@pytest.mark.parametrize("begins", ["append", "select"])
def test_an_async_session_of_sqlalchemy_keeps_its_transaction(
    url: str, schema: str, begins: str
) -> None:
    async def main() -> None:
        engine = create_async_engine(sqlalchemy_url(url))
        async with AsyncEventStore.connect(url, schema=schema, inline=[Counts]) as store:
            for ends in ("rollback", "commit"):
                async with AsyncSession(engine) as session:
                    if begins == "select":
                        await session.execute(text("SELECT 1"))
                    raw = await (await session.connection()).get_raw_connection()
                    own = raw.driver_connection
                    await store.bind(own).append("a", COUNTED, expected=ANY)
                    assert await store.stream("a") is None
                    await getattr(session, ends)()
            assert [event.version async for event in store.read("a")] == [0]
            assert await store.documents(Counts).read("a") == {"count": 1}
        await engine.dispose()

    asyncio.run(main())


_DJANGO = """
import sys
import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict
from indelible import ANY, EventStore
from tests.frameworks.test_frameworks import COUNTED, Counts

url, schema = sys.argv[1:]
given = conninfo_to_dict(url)
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": given["dbname"], "USER": given["user"],
    "PASSWORD": given.get("password", ""), "HOST": given["host"], "PORT": given.get("port", ""),
}})
django.setup()
from django.db import connection, transaction

with EventStore.connect(url, schema=schema, inline=[Counts]) as store:
    for is_undone in (True, False):
        with transaction.atomic():
            store.bind(connection.connection).append("a", COUNTED, expected=ANY)
            assert store.stream("a") is None
            transaction.set_rollback(is_undone)
    assert len(list(store.read("a"))) == 1
    assert store.documents(Counts).read("a") == {"count": 1}
"""


def test_a_block_of_django_keeps_its_transaction(url: str, schema: str) -> None:
    # In a separate process: Django has one configuration per process.
    subprocess.run([sys.executable, "-c", _DJANGO, url, schema], check=True, timeout=60)
