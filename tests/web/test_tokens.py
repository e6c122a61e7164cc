"""Tokens: created, shown once, revoked."""

from __future__ import annotations

import re

import httpx
import pytest

from indelible import EventStore

from .conftest import Serve
from .screens import HOSTILE
from .test_signin import _many_tries as _many_tries
from .test_signin import signed_in


def test_a_token_is_created_and_shown_once(store: EventStore, site: httpx.Client) -> None:
    form = {"name": HOSTILE, "read": "1", "channel": "order", "days": "30"}
    created = site.post("/tokens", data=form)
    found = re.search(r"<code>([a-z0-9]+_[^<\s]+)</code>", created.text)
    assert found is not None
    principal = store.principal_of(found[1])
    assert principal is not None
    assert [(sorted(each.verbs), each.channel) for each in principal.grants] == [
        (["read"], "order")
    ]
    listed = site.get("/tokens").text
    assert found[1] not in listed
    assert "<img" not in listed
    assert "in channel" in listed


def test_a_token_without_rights_is_refused(site: httpx.Client) -> None:
    answer = site.post("/tokens", data={"name": "ann"})
    assert answer.status_code == 422
    assert "The token was not created" in answer.text


def test_a_token_is_revoked_by_its_name(store: EventStore, site: httpx.Client) -> None:
    created = store.create_token("ann", can="read")
    assert "Revoke ann" in site.get("/tokens/revoke", params={"id": created.info.id}).text
    form = {"id": created.info.id}
    assert site.post("/tokens/revoke", data={**form, "typed": "bob"}).status_code == 422
    assert site.post("/tokens/revoke", data={**form, "typed": "ann"}).status_code == 303
    assert store.principal_of(created.text) is None
    assert site.get("/tokens/revoke", params={"id": "none"}).status_code == 404


def test_a_token_whose_name_cannot_be_typed_is_revoked_by_its_id(
    store: EventStore, site: httpx.Client
) -> None:
    created = store.create_token(HOSTILE, can="read")
    asked = site.get("/tokens/revoke", params={"id": created.info.id}).text
    assert "<img" not in asked
    form = {"id": created.info.id, "typed": created.info.id}
    assert site.post("/tokens/revoke", data=form).status_code == 303
    assert store.principal_of(created.text) is None


@pytest.mark.parametrize("verbs", [["read"], ["read", "append", "consume"], ["manage"]])
def test_only_a_token_with_all_rights_administers_tokens(
    store: EventStore, serve: Serve, verbs: list[str]
) -> None:
    token = store.create_token("ann", can=verbs)
    with signed_in(serve(requires_token=True), token.text) as client:
        text = client.get("/about").text
        assert 'href="/tokens"' not in text
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', text)
        assert found is not None
        form = {"csrf": found[1], "name": "more", "manage": "1", "read": "1"}
        assert client.post("/tokens", data=form).status_code == 404
        form = {"csrf": found[1], "id": token.info.id, "typed": "ann"}
        assert client.post("/tokens/revoke", data=form).status_code == 404
    assert [each.name for each in store.tokens()] == ["ann"]
    assert store.principal_of(token.text) is not None


def test_a_token_with_all_rights_finds_the_tokens(store: EventStore, serve: Serve) -> None:
    token = store.create_token("root", can=["read", "append", "consume", "manage"])
    with signed_in(serve(requires_token=True), token.text) as client:
        assert 'href="/tokens"' in client.get("/groups").text
        assert "root" in client.get("/tokens").text
