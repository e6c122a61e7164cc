"""Tokens: created once, found by their text, listed, revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from indelible import EventStore, InvalidInput
from indelible.access import Verb
from indelible.errors import PermissionDenied, TokenNotFound
from tests.migration.test_schema import as_member_of
from tests.support.waiting import wait_until


def test_a_token_gives_the_rights_that_it_was_created_with(store: EventStore) -> None:
    created = store.create_token(
        "delivery service",
        can=["append", "read"],
        channels=["delivery", "mail"],
        stream_prefixes="order-",
        expires_in=timedelta(days=90),
    )

    principal = store.principal_of(created.text)

    assert principal is not None
    assert principal.name == f"token {created.info.id} (delivery service)"
    assert principal.may(Verb.APPEND, "order-1", "mail")
    assert not principal.may(Verb.APPEND, "order-1", "sales")
    assert not principal.may(Verb.APPEND, "invoice-1", "mail")
    assert not principal.may(Verb.CONSUME, "order-1", "mail")
    assert list(created.info.grants) == list(principal.grants)
    assert created.info.created_by
    assert created.info.expires_at is not None
    assert created.info.expires_at - datetime.now(UTC) > timedelta(days=89)


def test_what_is_no_token_has_no_principal(store: EventStore) -> None:
    created = store.create_token("a", can="read")
    text = created.text
    other = "A" if text[-1] != "A" else "B"

    for wrong in (
        "",
        text[:-1],
        text[:-1] + other,
        text + "A",
        text + "\n",
        text.upper(),
        text.replace("_", "-", 1),
        "ind_aaaaaaaa_" + "A" * 43,
        "ind_\0aaaaaaa_" + "A" * 43,
        "ü" * 56,
    ):
        assert store.principal_of(wrong) is None
    assert store.principal_of(text) is not None


def test_a_revoked_token_is_refused_and_stays_in_the_list(store: EventStore) -> None:
    first, second = (store.create_token(name, can="read") for name in "ab")

    revoked = store.revoke_token(first.info.id)

    assert revoked.revoked_at is not None
    assert store.principal_of(first.text) is None
    assert store.principal_of(second.text) is not None
    assert store.revoke_token(first.info.id).revoked_at == revoked.revoked_at
    assert [token.name for token in store.tokens()] == ["a", "b"]
    with pytest.raises(TokenNotFound, match="aaaaaaaa"):
        store.revoke_token("aaaaaaaa")


def test_a_token_expires(store: EventStore) -> None:
    created = store.create_token("a", can="read", expires_in=timedelta(milliseconds=300))

    wait_until(lambda: store.principal_of(created.text) is None)


def test_the_last_use_of_a_token_is_noted(store: EventStore) -> None:
    created = store.create_token("a", can="read")
    assert created.info.last_used_at is None

    store.principal_of(created.text)
    (first,) = store.tokens()
    store.principal_of(created.text)
    (second,) = store.tokens()

    assert first.last_used_at is not None
    assert second.last_used_at == first.last_used_at, "noted once a minute"


def test_the_secret_is_neither_stored_nor_shown(store: EventStore, url: str, schema: str) -> None:
    created = store.create_token("a", can="read")
    secret = created.text.split("_", 2)[2]

    assert secret not in repr(created)
    with psycopg.connect(url) as connection:
        (row,) = connection.execute(
            sql.SQL("SELECT tokens::text FROM {} AS tokens").format(
                sql.Identifier(schema, "tokens")
            )
        ).fetchall()
    assert secret not in row[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"can": "raed"}, "can must be"),
        ({"can": ()}, "can must name"),
        ({"can": "read", "channels": ""}, "channels"),
        ({"can": "read", "stream_prefixes": ["a", "\0"]}, "stream_prefixes"),
        ({"can": "read", "expires_in": timedelta(0)}, "expires_in"),
        ({"can": "read", "expires_in": timedelta(days=-1)}, "expires_in"),
        ({"can": "read", "expires_in": timedelta.max}, "expires_in"),
    ],
)
def test_wrong_arguments_are_refused(store: EventStore, options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        store.create_token("a", **options)
    with pytest.raises(InvalidInput, match="name"):
        store.create_token("", can="read")


def test_a_writer_checks_tokens_and_only_a_maintainer_makes_them(url: str, schema: str) -> None:
    with EventStore.connect(url, schema=schema) as owner:
        created = owner.create_token("a", can="read")
    with as_member_of(url, schema, "writer") as member:
        with EventStore.connect(member, schema=schema) as store:
            assert store.principal_of(created.text) is not None
            for forbidden in (
                lambda: store.create_token("b", can="read"),
                store.tokens,
                lambda: store.revoke_token(created.info.id),
            ):
                with pytest.raises(PermissionDenied, match=f"{schema}_maintainer"):
                    forbidden()
        with psycopg.connect(member, autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {schema}.tokens")
        with psycopg.connect(url, autocommit=True) as owner_connection:
            owner_connection.execute(f"GRANT {schema}_maintainer TO login_{schema}")
        with EventStore.connect(member, schema=schema) as store:
            made = store.create_token("b", can="read")
            assert made.info.created_by == f"login_{schema}"
            assert [token.name for token in store.tokens()] == ["a", "b"]
            store.revoke_token(made.info.id)
