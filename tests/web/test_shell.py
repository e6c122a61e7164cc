"""What all pages share: the policy, errors, assets, vendored files, and rules for templates."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible import EventStore
from indelible.server.web import assets, groups

_WEB = Path(assets.FOLDER).parent


def test_an_unknown_page_says_so(site: httpx.Client) -> None:
    answer = site.get("/nothing-here")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "/nothing-here" in answer.text


def test_programs_get_problems_and_no_pages(site: httpx.Client) -> None:
    answer = site.get("/nothing-here", headers={"Accept": "*/*"})
    assert answer.headers["content-type"] == "application/problem+json"


def test_assets_never_change_under_their_address(site: httpx.Client) -> None:
    answer = site.get(assets.address("css/base.css"))
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert site.get("/static/000000000000/css/base.css").status_code == 404


def test_vendored_files_are_those_of_their_packages() -> None:
    folder = assets.FOLDER / "vendor"
    listed = tomllib.loads((folder / "vendor.toml").read_text("utf-8"))["file"]
    assert {each["name"] for each in listed} == {
        file.name for file in folder.iterdir() if file.suffix in (".js", ".css")
    }
    for each in listed:
        content = (folder / each["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each["sha256"]


def test_templates_keep_escaping_on_and_evaluate_nothing() -> None:
    for file in (_WEB / "templates").rglob("*.html"):
        text = file.read_text("utf-8")
        assert not re.search(r"\|\s*safe|autoescape|Markup", text), file
        assert not re.search(
            r"\bhx-on|js:|\sstyle=|\son[a-z]+=|<script>|hx-trigger=\"[^\"]*\[", text
        ), file


def test_scripts_make_elements_in_one_place_only() -> None:
    for file in (assets.FOLDER / "js").glob("*.js"):
        text = file.read_text("utf-8")
        assert not re.search(
            r"\.innerHTML|\.outerHTML|insertAdjacentHTML|eval\(|new Function", text
        ), file
        assert ("createPolicy" in text) == (file.name == "page.js")


def test_keys_are_listed(site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/nothing-here")
    page.keyboard.press("?")
    assert page.get_by_role("heading", name="Keys").is_visible()


@pytest.mark.parametrize("form", ["name=ann&read=1&admin=1", "name=ann&read=1&name=bob"])
def test_a_form_with_other_fields_is_refused(
    store: EventStore, site: httpx.Client, form: str
) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert site.post("/tokens", content=form, headers=kind).status_code == 422
    assert store.tokens() == []


def test_a_page_that_takes_too_long_is_stopped(
    site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_for_ever(call: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(groups, "readable_groups", read_for_ever)
    answer = site.get("/groups")
    assert answer.status_code == 503
    assert "This was stopped after 2 seconds." in answer.text
    assert "Health" in answer.text
