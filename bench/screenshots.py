"""The pictures of a report in docs/: light, dark, and as a phone shows it.

`python -m bench.screenshots [RUN]` writes the report of a run anew (runs/latest) and draws the top
of it, down to the end of the first charts. With --whole FOLDER, the whole pages go there instead:
to be looked at after a change of the report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, FloatRect, ViewportSize

from bench.figures import explained
from fedrnn.checkout import LATEST, ROOT
from fedrnn.reporting import report
from tests.chromium import chromium

MARGIN = 16
"""Pixels below what is shown last."""
# Columns, scheme of colours, and what is shown last.
PICTURES: dict[str, tuple[int, Literal["light", "dark"], str]] = {
    "light": (1000, "light", "#loss"),
    "dark": (1000, "dark", "#loss"),
    "phone": (360, "light", "#accuracy"),
}


def draw(browser: Browser, page_file: Path, name: str, folder: Path, whole: bool) -> Path:
    """Write one picture into a folder and return its path."""
    width, scheme, last = PICTURES[name]
    size = ViewportSize(width=width, height=800)
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.goto(page_file.resolve().as_uri())
    box = page.locator(last).bounding_box()
    assert box
    height = page.evaluate("document.documentElement.scrollHeight") if whole else (
        round(box["y"] + box["height"] + MARGIN)
    )  # fmt: skip
    path = folder / f"report-{name}.png"
    clip = FloatRect(x=0, y=0, width=width, height=height)
    page.screenshot(path=path, full_page=True, clip=clip)
    page.close()
    return path


def main() -> None:
    """Draw all of them."""
    parser = explained("screenshots", __doc__)
    parser.add_argument("run", nargs="?", type=Path, default=LATEST, metavar="RUN")
    parser.add_argument("--whole", type=Path, metavar="FOLDER")
    asked = parser.parse_args()
    page_file = report.write(asked.run)
    folder = asked.whole or ROOT / "docs"
    with chromium() as browser:
        for name in PICTURES:
            print(draw(browser, page_file, name, folder, asked.whole is not None))


if __name__ == "__main__":
    main()
