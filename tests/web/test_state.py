"""The panes with folded states: which decider, at two times, before and after, and their faults."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible import ANY, EventStore, NewEvent
from indelible.server.web import states
from indelible.server.web.json_tree import parse
from indelible.server.web.state_diff import DiffNode, compare
from tests.web.conftest import Serve

HOSTILE = '<img src=x onerror="alert(1)">"><svg onload=alert(1)>{{7*7}}\u202e'
BEGINNING = datetime(2026, 3, 3, 14, tzinfo=UTC)

_SHOP = '''
"""A shop, for the page."""
from dataclasses import dataclass, field, replace
from indelible import Aggregate, Decider, Upcaster


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Paid:
    amount: int


@dataclass(frozen=True)
class Failed:
    pass


@dataclass(frozen=True)
class Account:
    owner: str = ""
    balance: int = 9007199254740993
    payments: tuple[int, ...] = ()


def evolve(state: Account, event: Opened | Paid | Failed) -> Account:
    match event:
        case Opened(owner):
            return replace(state, owner=owner)
        case Paid(amount):
            return replace(
                state, balance=state.balance + amount, payments=(*state.payments, amount)
            )
        case _:
            raise ValueError("<b>no account fails</b>")


def decide(command: None, state: Account) -> list[Opened | Paid | Failed]:
    return []


accounts: Decider[None, Account, Opened | Paid | Failed] = Decider(decide, evolve, Account)


@dataclass(frozen=True)
class Shipped:
    place: str


class Thing:
    def __repr__(self) -> str:
        return "<Thing & more>\\nsecond line"


class Parcel(Aggregate[Shipped]):
    place: str = "nowhere"
    _secret = 1

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.thing = Thing()

    def evolve(self, event: Shipped) -> None:
        self.place = event.place
        self.seen.append(event.place)


@dataclass(frozen=True)
class Odd:
    pass


oddities: Decider[None, Thing, Odd] = Decider(lambda c, s: [], lambda s, e: Thing(), Thing)
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with deciders."""
    (tmp_path / "shop_of_the_page.py").write_text(_SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "shop_of_the_page"
    sys.modules.pop("shop_of_the_page", None)


@pytest.fixture
def served_shop(serve: Serve, shop: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=serve(app=shop), timeout=30, headers={"Accept": "text/html"}
    ) as opened:
        yield opened


def account(store: EventStore, stream: str = "account-1") -> None:
    """An account with three payments, each of a day of its own."""
    store.append(stream, NewEvent("Opened", {"owner": HOSTILE}, valid_at=BEGINNING), expected=ANY)
    for day in (1, 3, 2):
        event = NewEvent("Paid", {"amount": day}, valid_at=BEGINNING + timedelta(days=day))
        store.append(stream, event, expected=ANY)


def shown(site: httpx.Client, pane: str = "state", name: str = "account-1", **given: Any) -> str:
    answer = site.get("/stream", params={"name": name, "pane": pane, **given})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_without_an_application_the_command_is_shown(site: httpx.Client, store: EventStore) -> None:
    account(store)
    for pane in ("state", "change", "compare"):
        text = shown(site, pane)
        assert "No deciders given." in text
        assert "indelible serve shop:app" in text


def test_the_decider_that_fits_is_chosen_and_no_digit_is_lost(
    served_shop: httpx.Client, store: EventStore
) -> None:
    account(store)
    text = shown(served_shop)
    assert '<option value="accounts" selected>accounts</option>' in text
    assert '<option value="Parcel">Parcel (other events)</option>' in text
    assert "9007199254740999" in text
    assert "&lt;img src=x onerror=" in text
    assert "<img src=x" not in text
    assert "\u202e" not in text


def test_the_state_is_that_of_both_times(served_shop: httpx.Client, store: EventStore) -> None:
    account(store)
    positions = [event.position for event in store.read("account-1")]
    assert "9007199254740994" in shown(served_shop, as_of=positions[1])
    assert "9007199254740997" in shown(served_shop, as_of=positions[2])
    second_day = (BEGINNING + timedelta(days=2)).isoformat()
    text = shown(served_shop, valid_at=second_day)
    assert "9007199254740996" in text  # 1 and 2, and not the 3 of a later day
    assert "in order of valid time" in text
    assert "9007199254740994" in shown(served_shop, valid_at=second_day, as_of=positions[2])


def test_an_event_shows_what_it_changed(served_shop: httpx.Client, store: EventStore) -> None:
    account(store)
    text = shown(served_shop, "change", at=2)
    assert "2 differences" in text
    assert "9007199254740994" in text
    assert "9007199254740997" in text
    assert '<span class="word">added</span>' in text
    assert '<span class="word">changed</span>' in text
    first = shown(served_shop, "change", at=0)
    assert "What version 0 changed" in first
    assert "1 difference." in first


def test_any_two_versions_are_compared(served_shop: httpx.Client, store: EventStore) -> None:
    account(store)
    text = shown(served_shop, "compare", at=3, **{"with": 1})
    assert "9007199254740994" in text
    assert "9007199254740999" in text
    back = shown(served_shop, "compare", at=1, **{"with": 3})
    assert '<span class="word">removed</span>' in back
    assert "No difference." in shown(served_shop, "compare", at=2, **{"with": 2})


def test_an_aggregate_shows_its_attributes(served_shop: httpx.Client, store: EventStore) -> None:
    store.append("parcel-1", NewEvent("Shipped", {"place": "Bern"}), expected=ANY)
    text = shown(served_shop, name="parcel-1")
    assert "place" in text
    assert "Bern" in text
    assert "seen" in text
    assert "&lt;Thing &amp; more&gt;" in text
    assert "_secret" not in text


def test_a_state_without_json_is_shown_as_python_writes_it(
    served_shop: httpx.Client, store: EventStore
) -> None:
    store.append("odd-1", NewEvent("Odd", {}), expected=ANY)
    assert '<pre class="json">&lt;Thing &amp; more&gt;\nsecond line\n</pre>' in shown(
        served_shop, name="odd-1"
    )
    assert "These states have no common tree." in shown(served_shop, "change", "odd-1", at=0)


def test_what_cannot_be_folded_is_a_sentence(served_shop: httpx.Client, store: EventStore) -> None:
    account(store)
    store.append("account-1", NewEvent("Failed", {}), expected=ANY)
    assert "accounts failed at version 4: ValueError: &lt;b&gt;no account fails&lt;/b&gt;" in shown(
        served_shop
    )
    # Up to the event before it all is well.
    assert "9007199254740999" in shown(served_shop, "change", at=3)

    account(store, "account-2")
    store.append("account-2", NewEvent("Unheard", {}), expected=ANY)
    assert "Unheard" in shown(served_shop, name="account-2")
    assert "9007199254740999" not in shown(served_shop, name="account-2")

    store.append("account-3", NewEvent("Paid", {"amount": "much"}), expected=ANY)
    assert "account-3" in shown(served_shop, name="account-3")
    assert 'class="note bad"' in shown(served_shop, name="account-3")

    account(store, "account-4")
    store.close_stream("account-4", expected=ANY)
    store.erase_stream("account-4", reason="asked for")
    text = shown(served_shop, name="account-4")
    assert "Data of this stream was erased on" in text
    assert "there is no state to fold" in text


def test_another_decider_can_be_chosen(served_shop: httpx.Client, store: EventStore) -> None:
    store.append("thing-1", NewEvent("Unheard", {}), expected=ANY)
    text = shown(served_shop, name="thing-1")
    assert "No decider of <code>shop_of_the_page</code> takes events of this stream" in text
    assert "Unheard" in shown(served_shop, name="thing-1", fold="accounts")


def test_many_events_are_folded_only_if_asked(
    served_shop: httpx.Client, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "MOST", 3)
    monkeypatch.setattr(states.state_panel, "__kwdefaults__", {"at_most": 3})
    account(store)
    text = shown(served_shop)
    assert "Fold 4 events</a>" in text
    assert "9007199254740999" not in text
    assert "9007199254740997" in shown(served_shop, as_of=store.head() - 1)
    assert "Fold 4 events" in shown(served_shop, valid_at="now")
    whole = served_shop.get("/state", params={"name": "account-1", "fold": "accounts"})
    assert whole.status_code == 200
    assert "9007199254740999" in whole.text
    assert served_shop.get("/state", params={"name": "never"}).status_code == 404


def test_a_token_that_may_not_read_a_stream_gets_no_state(
    serve: Serve, shop: str, store: EventStore
) -> None:
    account(store)
    created = store.create_token("page", can="read", channels="elsewhere")
    with httpx.Client(base_url=serve(app=shop, requires_token=True)) as client:
        headers = {"Authorization": f"Bearer {created.text}", "Accept": "text/html"}
        for path in ("/state", "/stream"):
            answer = client.get(path, params={"name": "account-1"}, headers=headers)
            assert answer.status_code == 404
            assert "9007199254740999" not in answer.text


def test_dragging_a_slider_folds_anew(
    served_shop: httpx.Client, store: EventStore, page: Any
) -> None:
    from playwright.sync_api import expect

    account(store)
    page.goto(f"{served_shop.base_url}/stream?name=account-1&pane=state")
    state = page.get_by_role("region", name="The event, or the state")
    expect(page.locator("html[data-scripts]")).to_be_attached()
    expect(state).to_contain_text("9007199254740999")
    slider = page.locator("#slide-recorded")
    slider.focus()
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    expect(state).not_to_contain_text("9007199254740999")
    expect(state).to_contain_text("9007199254740997")
    assert "as_of=" in page.url


def test_the_tree_of_differences() -> None:
    def told(node: DiffNode) -> list[tuple[str | None, str]]:
        found = [] if node.kind else [(node.key, node.sign)]
        return found + [pair for child in node.children for pair in told(child)]

    before, after = parse('{"a":[1,2,3],"b":{"c":1},"d":1}'), parse('{"a":[1,9,2,3],"b":{"c":1}}')
    node = compare(before, after)
    assert told(node) == [
        ("0", "same"),
        ("1", "added"),
        ("2", "same"),
        ("3", "same"),
        ("b", "same"),
        ("d", "removed"),
    ]
    assert node.changes == 2
    assert compare(parse("1"), parse('"1"')).sign == "changed"
    assert compare(parse("[1]"), parse('["1"]')).changes == 1
    assert compare(parse("1.0"), parse("1.00")).sign == "changed"
    assert compare(parse("{}"), parse("[]")).sign == "changed"
    many = compare(parse(str(list(range(3_000)))), parse(str([*range(2_999), -1])))
    assert many.changes == 1
    assert many.left_out > 0
