"""Consumer groups: the list, what is parked, and the actions with their questions."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import httpx
import pytest

from indelible import EventStore, NewEvent

from .screens import HOSTILE


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
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', text))


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
