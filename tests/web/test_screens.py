"""Every screen: in both themes, wide and narrow, with a full and an empty store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from indelible.testing.temporary_stores import FreshStores
from tests.support.served import served

from .screens import addresses, fill_store

Site = tuple[str, Mapping[str, str]]

# Both stores need it: a fixture that is asked for by name gives a test no parameters.
_NAMES = (
    "overview",
    "streams",
    "stream",
    "stream-both",
    "stream-state",
    "stream-hostile",
    "log",
    "types",
    "type",
    "correlation",
    "groups",
    "group",
    "group-parked",
    "projections",
    "projection",
    "health",
    "about",
    "tokens",
    "signin",
    "find",
)
_WIDTHS = {"wide": 1280, "phone": 390, "narrow": 320}


@pytest.fixture(scope="module")
def full(indelible_stores: FreshStores, server_url: str) -> Iterator[Site]:
    """A server with a store that has something on every screen."""
    with indelible_stores.store() as store:
        fill_store(server_url, store.schema, orders=30)
        with served(server_url, store.schema) as address:
            yield address, addresses(server_url, store.schema)


@pytest.fixture(scope="module")
def empty(indelible_stores: FreshStores, server_url: str) -> Iterator[Site]:
    """A server with an empty store."""
    with indelible_stores.store() as store, served(server_url, store.schema) as address:
        yield address, addresses(server_url, store.schema)


@pytest.fixture(scope="module")
def sites(full: Site, empty: Site) -> Mapping[str, Site]:
    """Both."""
    return {"full": full, "empty": empty}


def _contexts(chromium: Any, **options: Any) -> Any:
    return chromium.new_context(viewport={"width": 1280, "height": 900}, **options)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("content", ["full", "empty"])
@pytest.mark.parametrize("name", _NAMES)
def test_it_is_accessible(
    chromium: Any, sites: Mapping[str, Site], name: str, content: str, theme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    address, screens = sites[content]
    # The policy would refuse the script that looks for faults.
    context = _contexts(chromium, bypass_csp=True, color_scheme=theme, reduced_motion="reduce")
    try:
        page = context.new_page()
        page.goto(address + screens[name])
        found = Axe().run(page).response["violations"]
    finally:
        context.close()
    serious = [
        (each["id"], node["html"][:200], node["failureSummary"])
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
    assert not serious


@pytest.mark.parametrize("content", ["full", "empty"])
@pytest.mark.parametrize("name", _NAMES)
def test_it_fits_keeps_the_policy_and_runs_without_faults(
    chromium: Any, sites: Mapping[str, Site], name: str, content: str
) -> None:
    address, screens = sites[content]
    context = _contexts(chromium)
    faults: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        page.on(
            "console",
            lambda message: (
                faults.append(message.text)
                if message.type == "error" and "status of 404" not in message.text
                else None
            ),
        )
        for label, width in _WIDTHS.items():
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(address + screens[name])
            page.locator("html[data-scripts]").wait_for()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (label, wide)
            assert page.title().strip()
            assert page.locator("h1").count() == 1
    finally:
        context.close()
    assert not faults
