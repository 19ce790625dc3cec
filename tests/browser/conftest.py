"""A real Chromium without a window, and pages that fail the test on any complaint of theirs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.chromium import chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def show(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a file, and check afterwards that nothing was complained of."""
    complaints: list[str] = []
    contexts = []

    def open_(path: Path, width: int = 1200, scheme: str = "light") -> Page:
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith("file:")
                or complaints.append(f"it asked for {request.url}"))  # fmt: skip
        page.goto(path.resolve().as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
