"""The documentation's site: it builds with every link checked, and is read on wide and narrow screens."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.pages import ROOT, read

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("mkdocs", reason="pip install '.[docs]'")


class Quiet(SimpleHTTPRequestHandler):
    """Serves without a word."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, built as `make docs` does."""
    made = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(made)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(made)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_every_page_fits_the_screen(site: str, browser: Browser, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    listed = re.findall(r"([\w/]+)\.md$", read("mkdocs.yml"), re.MULTILINE)
    assert len(listed) > 40
    for name in (re.sub("(^|(?<=/))index/$", "", f"{each}/") for each in listed):
        page.goto(f"{site}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"), name
    assert not said
    assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    page.close()


def test_the_search_finds(site: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(site, wait_until="networkidle")  # what is typed before the scripts listen is lost
    page.locator("[data-md-component=search-query]").press_sequentially("ghost batches")
    page.wait_for_selector(".md-search-result__link", timeout=60_000)
    assert page.locator(".md-search-result__link").count() > 3
    page.close()


def test_what_lies_above_the_folder_is_within_the_site(site: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{site}/libraries/")
    for name in ("CONTRIBUTING/", "CHANGELOG/", "SECURITY/", "examples/plain_loop.py", "tutorial.ipynb"):
        assert page.request.get(f"{site}/{name}").ok, name
    page.close()
