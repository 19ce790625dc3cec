"""A real Chromium without a window."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the one that is installed, and end it again."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, "there is no Chromium: `scripts/system.sh browser` installs it"
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses root otherwise
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=root)
        yield browser
        browser.close()
