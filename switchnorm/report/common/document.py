"""A page as one HTML file that holds everything it shows and fetches nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template


def document(eyebrow: str, title: str, lede: str, sections: Iterable[str], scripts: Iterable[str] = ()) -> str:
    """The whole page.

    Args:
        eyebrow: what kind of page it is, above its title.
        title: its headline.
        lede: what a reader should know first.
        sections: HTML.
        scripts: that it runs.
    """
    return Template(asset("page.html")).substitute(
        eyebrow=escape(eyebrow),
        # A narrow screen must not part a number from its percent sign.
        title=escape(title).replace(" %", "&nbsp;%").replace(" IoU", "&nbsp;IoU"),
        lede=escape(lede),
        sections="\n".join(sections),
        css=asset("page.css"),
        scripts="\n".join(f"<script>\n{script}\n</script>" for script in scripts),
    )


def asset(name: str) -> str:
    """A file of the page: its style, its script, its HTML."""
    return (resources.files("switchnorm.report") / "assets" / name).read_text(encoding="utf-8")
