"""A headless Chromium for the tests that look at what the report draws.

`python -m tests.browser` sees to it that there is one: `make test` calls it first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


_MISSING = "no Chromium: run `playwright install chromium`, install your system's, or set CHROMIUM to the path of one"


def find_chromium() -> str | None:
    """The browser to use: $CHROMIUM, one on PATH, or playwright's own; None without one."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        with sync_playwright() as playwright:
            found = playwright.chromium.executable_path
    return found if Path(found).is_file() else None


def provide() -> str | None:
    """Find a browser, or else install one: playwright's own, or the system's where that needs no password."""
    commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        commands += [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]]
    for command in commands:
        if find_chromium() is None:
            print(" ".join(command), flush=True)
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    return find_chromium()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser, closed at the end."""
    path = find_chromium()
    if path is None:
        pytest.fail(_MISSING, pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


if __name__ == "__main__":
    sys.exit(None if provide() else _MISSING)
