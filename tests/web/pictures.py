"""Take the pictures of the documentation: `make pictures`, or all screens into another folder.

python -m tests.web.pictures docs/assets/page
python -m tests.web.pictures --all /tmp/pictures
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from indelible import EventStore, embedded
from tests.support.served import served

from .screens import addresses, fill_store

_APPLICATION = "indelible.examples.food_delivery"
_SCHEMA = "indelible"
_PICTURES = ("overview", "stream-both", "log", "group-parked")
_WIDTHS = {1280: 900, 390: 844}


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="each screen, wide and narrow")
    parser.add_argument("--orders", type=int, default=3_000)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with (
        _served(arguments.orders, is_hostile=arguments.all) as (address, screens),
        _browser() as browser,
    ):
        if not arguments.all:
            _take(browser, address, screens, arguments.folder)
            return
        _take_all(browser, address, screens, arguments.folder, "full")
    with _served(0, is_hostile=False) as (address, screens), _browser() as browser:
        _take_all(browser, address, screens, arguments.folder, "empty")


@contextmanager
def _served(orders: int, *, is_hostile: bool) -> Iterator[tuple[str, Mapping[str, str]]]:
    with tempfile.TemporaryDirectory(prefix="indelible-pictures-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)  # the server's account may be another one
        server = stack.enter_context(closing(embedded.start(Path(folder) / "postgres")))
        EventStore.connect(server.url, schema=_SCHEMA, migrate=True).close()
        if orders:
            fill_store(server.url, _SCHEMA, orders=orders, is_hostile=is_hostile)
        with served(server.url, _SCHEMA, app=_APPLICATION) as address:
            yield address, addresses(server.url, _SCHEMA)


@contextmanager
def _browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


def _take(browser: Any, address: str, screens: Mapping[str, str], folder: Path) -> None:
    for theme in ("light", "dark"):
        context = browser.new_context(
            viewport={"width": 1280, "height": 800}, color_scheme=theme, locale="en-GB"
        )
        page = context.new_page()
        for name in _PICTURES:
            _open(page, address + screens[name])
            page.screenshot(path=folder / f"{name}-{theme}.png")
        context.close()


def _take_all(
    browser: Any, address: str, screens: Mapping[str, str], folder: Path, content: str
) -> None:
    for theme in ("light", "dark"):
        for width, height in _WIDTHS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, locale="en-GB"
            )
            page = context.new_page()
            for name, path in screens.items():
                _open(page, address + path)
                page.screenshot(
                    path=folder / f"{content}-{name}-{width}-{theme}.png", full_page=width < 1_000
                )
            context.close()


def _open(page: Any, address: str) -> None:
    page.goto(address)
    page.locator("html[data-scripts]").wait_for()
    page.evaluate("document.fonts.ready")


if __name__ == "__main__":
    main()
