"""Tokens: created, shown once, revoked."""

from __future__ import annotations

import re

import httpx

from indelible import EventStore

from .screens import HOSTILE


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
