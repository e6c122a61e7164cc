"""Consumer groups: the list, what is parked, and the actions with their questions."""

from __future__ import annotations

import html
import json
import logging
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest

from indelible import EventStore, NewEvent, Query
from indelible.server.web.groups import shown
from tests.support.waiting import wait_until

from .conftest import Serve
from .screens import HOSTILE
from .test_signin import _many_tries as _many_tries
from .test_signin import signed_in


@pytest.fixture
def parked(store: EventStore) -> EventStore:
    """A store with a group that has parked three events."""
    for number in range(4):
        store.append(f"order-{number}", NewEvent("OrderPlaced", {"n": number}), expected=-1)
    group = store.group("billing")
    group.create(max_attempts=1)
    _fail(store, 3)
    return store


def _fail(store: EventStore, count: int) -> None:
    with store.group("billing").consume() as consumer:
        for number, event in enumerate(consumer, 1):
            with suppress(ValueError), event:
                raise ValueError(f"no answer {HOSTILE}")
            if number == count:
                break


def _hidden(text: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', text)
    return {name: html.unescape(value) for name, value in found}


def test_an_empty_store_tells_how_to_make_a_group(site: httpx.Client) -> None:
    text = site.get("/groups").text
    assert "No consumer groups yet." in text
    assert "indelible groups create" in text


def test_the_worst_group_comes_first(parked: EventStore, site: httpx.Client) -> None:
    parked.group("archiving").create(start="head")
    text = site.get("/groups").text
    assert "3 parked" in text
    assert text.index("billing") < text.index("archiving")


def test_errors_are_text(parked: EventStore, site: httpx.Client) -> None:
    text = site.get("/group", params={"name": "billing"}).text
    assert "no answer &lt;img" in text
    assert "<img" not in text
    assert "\\u202e" in text


def test_a_parked_event_is_replayed_from_the_dialog(
    parked: EventStore, site: httpx.Client, page: Any
) -> None:
    page.goto(f"{site.base_url}/group?name=billing")
    page.locator("tbody tr").first.get_by_role("link", name="Replay…").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    page.get_by_text("1 event is replayed").wait_for()
    assert len(parked.group("billing").parked()) == 2


def test_a_dialog_can_be_left(parked: EventStore, site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/group?name=billing")
    page.get_by_role("link", name="Discard all…").click()
    page.get_by_role("dialog").get_by_role("link", name="Cancel").click()
    assert page.get_by_role("dialog").count() == 0
    assert len(parked.group("billing").parked()) == 3


def test_the_question_works_without_scripts(parked: EventStore, site: httpx.Client) -> None:
    positions = [str(each.position) for each in parked.group("billing").parked()][:2]
    asked = site.get("/group/replay", params={"name": "billing", "position": positions})
    assert "Replay 2 parked events" in asked.text
    done = site.post("/group/replay", data=_hidden(asked.text), follow_redirects=True)
    assert "2 events are replayed" in done.text
    assert len(parked.group("billing").parked()) == 1


def test_nothing_is_discarded_if_it_is_no_longer_as_it_was(
    parked: EventStore, site: httpx.Client
) -> None:
    asked = site.get("/group/discard", params={"name": "billing"})
    _fail(parked, 1)
    refused = site.post("/group/discard", data={**_hidden(asked.text), "typed": "billing"})
    assert refused.status_code == 409
    assert "4 are parked now, 3 when you looked." in refused.text
    assert (
        '<a class="button" href="/group?name=billing&amp;tab=parked">Look again</a>' in refused.text
    )
    assert len(parked.group("billing").parked()) == 4


def test_all_are_discarded_only_by_the_name(parked: EventStore, site: httpx.Client) -> None:
    form = _hidden(site.get("/group/discard", params={"name": "billing"}).text)
    assert site.post("/group/discard", data={**form, "typed": "bill"}).status_code == 422
    assert len(parked.group("billing").parked()) == 3
    assert site.post("/group/discard", data={**form, "typed": "billing"}).status_code == 303
    assert parked.group("billing").parked() == []


def test_a_group_is_reset_and_deleted(parked: EventStore, site: httpx.Client) -> None:
    form = _hidden(site.get("/group/reset", params={"name": "billing"}).text)
    form |= {"typed": "billing", "to": "beginning"}
    stale = site.post("/group/reset", data={**form, "checkpoint": "99"})
    assert stale.status_code == 409
    assert site.post("/group/reset", data=form).status_code == 303
    assert parked.group("billing").info().checkpoint == 0
    form = _hidden(site.get("/group/delete", params={"name": "billing"}).text)
    changed = {**form, "typed": "billing", "parked": "99"}
    assert site.post("/group/delete", data=changed).status_code == 409
    assert site.post("/group/delete", data={**form, "typed": "billing"}).status_code == 303
    assert parked.groups() == []


def test_each_part_of_a_group_is_shown(parked: EventStore, site: httpx.Client) -> None:
    for tab, words in {
        "parked": "behind it",
        "workers": "No worker is here.",
        "lag": "waiting behind parked",
        "settings": "attempts before it parks",
    }.items():
        assert words in site.get("/group", params={"name": "billing", "tab": tab}).text
    assert site.get("/group", params={"name": "other"}).status_code == 404


def test_the_list_is_live(parked: EventStore, site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/groups")
    row = page.locator("[data-group=billing]")
    assert row.get_by_text("3 parked").is_visible()
    parked.group("billing").discard()
    row.get_by_text("no worker").wait_for(timeout=15_000)


def test_chosen_events_are_replayed(parked: EventStore, site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/group?name=billing")
    for row in (0, 2):
        page.get_by_role("checkbox").nth(row).check()
    page.get_by_role("button", name="Replay the chosen…").click()
    page.get_by_role("heading", name="Replay 2 parked events").wait_for()
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("2 events are replayed").wait_for()
    assert len(parked.group("billing").parked()) == 1


@pytest.mark.parametrize("verb", ["Replay", "Discard"])
def test_choosing_nothing_does_not_choose_all(
    parked: EventStore, site: httpx.Client, page: Any, verb: str
) -> None:
    page.goto(f"{site.base_url}/group?name=billing")
    page.get_by_role("button", name=f"{verb} the chosen…").click()
    page.get_by_text("No event was chosen.").wait_for()


@pytest.mark.parametrize("verb", ["replay", "discard"])
@pytest.mark.parametrize(
    ("positions", "status"),
    [("999", 409), ("9" * 30, 422), ("9" * 5_000, 422), ("x", 422), ("1," * 60, 422)],
)
def test_what_is_not_parked_is_refused(
    parked: EventStore, site: httpx.Client, verb: str, positions: str, status: int
) -> None:
    form = {"name": "billing", "parked": "3", "typed": "billing", "positions": positions}
    assert site.post(f"/group/{verb}", data=form).status_code == status
    assert len(parked.group("billing").parked()) == 3


def test_names_are_text_and_can_be_typed_as_shown(store: EventStore, site: httpx.Client) -> None:
    store.append("order-1", NewEvent(HOSTILE, {}), expected=-1)
    store.group(HOSTILE).create(start="head")
    pages = {
        path: site.get(path, params={"name": HOSTILE}).text
        for path in ("/group", "/group/reset", "/group/delete", "/group/discard")
    }
    pages["/groups"] = site.get("/groups").text
    for text in pages.values():
        assert "&lt;img" in text
        assert "<img" not in text
        assert "<svg onload" not in text
    shown = re.search(r"Type <code>(.*?)</code>", pages["/group/delete"])
    assert shown is not None
    typed = html.unescape(shown[1])
    assert "\\u202e" in typed
    form = {**_hidden(pages["/group/delete"]), "typed": typed}
    assert site.post("/group/delete", data=form).status_code == 303
    assert store.groups() == []


def test_a_token_sees_the_groups_of_its_channel_alone(parked: EventStore, serve: Serve) -> None:
    parked.group("orders").create(Query(channel="order"))
    parked.group("invoices").create(Query(channel="invoice"))
    token = parked.create_token("ann", can=["read", "manage"], channels="order").text
    with signed_in(serve(requires_token=True), token) as client:
        assert re.findall(r'data-group="(\w+)"', client.get("/groups").text) == ["orders"]
        with client.stream("GET", "/live/groups") as live:
            data = next(line for line in live.iter_lines() if line.startswith("data:"))
        assert list(json.loads(data.removeprefix("data:"))) == ["orders"]
        assert "Reset…" in client.get("/group", params={"name": "orders"}).text
        for path in ("/group", "/group/replay", "/group/discard", "/group/reset", "/group/delete"):
            hidden = client.get(path, params={"name": "invoices"})
            missing = client.get(path, params={"name": "nothings"})
            assert (hidden.status_code, missing.status_code) == (404, 404)
            assert hidden.text.replace("invoices", "nothings") == missing.text


def test_only_a_token_that_manages_acts(parked: EventStore, serve: Serve) -> None:
    forms: dict[str, dict[str, str]] = {
        "replay": {"parked": "3"},
        "discard": {"parked": "3", "typed": "billing"},
        "reset": {"checkpoint": "0", "typed": "billing", "to": "head"},
        "delete": {"parked": "3", "typed": "billing"},
    }
    token = parked.create_token("ann", can=["read", "consume"]).text
    with signed_in(serve(requires_token=True), token) as client:
        text = client.get("/group", params={"name": "billing"}).text
        assert "no answer" in text
        assert "/group/replay?" not in text
        assert "the chosen…" not in text
        csrf = _hidden(text)["csrf"]
        for verb, form in forms.items():
            sent = client.post(f"/group/{verb}", data={**form, "name": "billing", "csrf": csrf})
            assert sent.status_code == 403
            assert "may look at this group" in sent.text
    assert len(parked.group("billing").parked()) == 3


def test_only_an_own_form_acts(parked: EventStore, serve: Serve) -> None:
    token = parked.create_token("ann", can=["read", "manage"]).text
    with signed_in(serve(requires_token=True), token) as client:
        form = _hidden(client.get("/group/replay", params={"name": "billing"}).text)
        evil = client.post("/group/replay", data=form, headers={"Origin": "https://evil.example"})
        wrong = client.post("/group/replay", data={**form, "csrf": "0" * 64})
        none = client.post("/group/replay", data={k: v for k, v in form.items() if k != "csrf"})
        assert [evil.status_code, wrong.status_code, none.status_code] == [403, 403, 403]
        assert len(parked.group("billing").parked()) == 3
        assert client.post("/group/replay", data=form).status_code == 303
        assert parked.group("billing").parked() == []


def test_the_audit_log_tells_what_was_done(
    parked: EventStore, site: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    position = str(parked.group("billing").parked()[0].position)
    with caplog.at_level(logging.INFO, "indelible.audit"):
        form = {"name": "billing", "parked": "3", "positions": position}
        assert site.post("/group/discard", data=form).status_code == 303
        wait_until(lambda: "POST /group/discard" in caplog.text)
    (record,) = (each for each in caplog.records if each.name == "indelible.audit")
    assert record.getMessage() == "POST /group/discard"
    assert record.__dict__["form"] == {"name": "billing", "positions": position}


@pytest.mark.parametrize(
    ("lag", "words"),
    [
        (0, "0"),
        (100_000, "100,000"),
        (100_001, "> 100,000 positions"),
        (2**62, "> 100,000 positions"),
    ],
)
def test_a_long_lag_is_no_false_exact_figure(parked: EventStore, lag: int, words: str) -> None:
    assert shown(replace(parked.group("billing").info(), lag_events=lag)).lag == words


def test_parked_events_are_shown_in_pages(
    parked: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.server.web.groups.PARKED", 2)
    first, second, third = (event.position for event in parked.group("billing").parked())
    text = site.get("/group", params={"name": "billing"}).text
    assert f'value="{second}"' in text
    assert f'value="{third}"' not in text
    following = re.search(r'rel="next" href="([^"]+)"', text)
    assert following is not None
    text = site.get(following[1].replace("&amp;", "&")).text
    assert f'value="{third}"' in text
    assert f'value="{first}"' not in text
    assert 'rel="prev"' in text


def test_the_navigation_counts_parked_events(
    parked: EventStore, site: httpx.Client, page: Any
) -> None:
    page.goto(f"{site.base_url}/")
    page.locator(".rail .badge").wait_for()
    assert page.locator(".rail .badge").inner_text() == "3"
