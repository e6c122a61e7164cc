"""The page: served for real, read as HTML, and driven in a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from indelible import EventStore
from tests.support.served import served

Serve = Callable[..., str]


@pytest.fixture
def store(url: str, schema: str) -> Iterator[EventStore]:
    """The store behind the page."""
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


@pytest.fixture
def serve(url: str, schema: str) -> Iterator[Serve]:
    """Starts a server with given settings, and returns its address."""
    with ExitStack() as running:

        def start(**options: Any) -> str:
            return running.enter_context(served(url, schema, **options))

        yield start


@pytest.fixture
def site(serve: Serve) -> Iterator[httpx.Client]:
    """A client of a server that asks for no tokens, as a browser without scripts."""
    address = serve()
    headers = {"Origin": address, "Accept": "text/html"}
    with httpx.Client(base_url=address, timeout=30, headers=headers) as opened:
        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. It ends with its module: its event loop would stop the async tests after it."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        # The tests of CI run as root, for whom it has no sandbox.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page of the browser. The test fails if a script of the page fails, or breaks the policy."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            faults.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield opened
    context.close()
    assert not faults
