"""A report in a browser, and what can be measured there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from switchnorm.report import write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@dataclass
class Visit:
    """A page in the browser, and what went wrong or out on the way."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """A function that opens a report and waits for its figures; what it opened is closed after the test."""
    pages = []

    def open_page(path: Path, scheme: Literal["light", "dark"] = "light", width: int = 1280) -> Visit:
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        pages.append(page)
        seen = Visit(page)
        page.on(
            "console", lambda said: seen.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (seen.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(path.as_uri())
        page.locator(".plot[aria-busy]").first.wait_for(state="detached")
        return seen

    yield open_page
    for page in pages:
        page.close()


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def colours(page: Page, selector: str, name: str) -> set[str]:
    """The computed values of a CSS property on every element that the selector finds; at least one."""
    found = page.locator(selector).evaluate_all(f"all => all.map(each => getComputedStyle(each)['{name}'])")
    assert found, selector
    return set(found)


def markup(tmp_path: Path, *paths: Path) -> str:
    """The page of some runs as text, without its styles and scripts."""
    text = write(paths, tmp_path / "report.html").read_text()
    return re.sub(r"<(style|script)[ >].*?</\1>", "", text, flags=re.DOTALL)
