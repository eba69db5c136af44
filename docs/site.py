"""What the site has besides the pages of docs/: files from above that folder, to which pages link, and the tutorial.

A hook of mkdocs (`hooks` in mkdocs.yml). Links stay as they are read in a checkout, `../examples/plain_loop.py`, and
lead to copies within the site.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: Pages that lie above docs/, and other files that pages link to.
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
FILES = ("LICENSE", "CITATION.cff", "examples/*.py", "benchmarks/results/*.json", "tests/test_*.py")
#: README.md is not on the site: the first page is.
FRONT = {"README.md": "index.md"}
TUTORIAL = "tutorial.ipynb"

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+)(?=[#)])")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies above docs/."""
    for pattern in (*PAGES, *FILES):
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    files.append(File.generated(config, "tutorial.md", content=as_page(ROOT / "docs" / TUTORIAL)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links that leave docs/ to the copies within the site, and call pages by their headings."""
    source = page.file.src_uri
    above = "" if source in PAGES else "docs"
    folder = posixpath.dirname(posixpath.join(above, source))

    def led(found: re.Match[str]) -> str:
        text, place = found[1], posixpath.normpath(posixpath.join(folder, found[2]))
        place = FRONT.get(place, place.removeprefix("docs/"))
        place = "tutorial.md" if place == TUTORIAL else place
        there = files.get_file_from_path(place)
        if there is None:
            return found[0]
        if text.endswith(".md") and text in found[2]:
            text = title_of(there)
        return f"[{text}]({posixpath.relpath(place, posixpath.dirname(source) or '.')}"

    return _LINK.sub(led, markdown)


def title_of(page: File) -> str:
    """What a page is called in running text: its heading, up to a colon."""
    heading = re.search(r"^# (.*)$", page.content_string, re.MULTILINE)
    return heading[1].partition(":")[0] if heading else page.name


def as_page(notebook: Path) -> str:
    """A notebook as Markdown: its text, its code, and what that printed or drew."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        outputs = cell.get("outputs", ())
        for data in (output.get("data", {}) for output in outputs):
            if "image/png" in data:
                png = "".join(data["image/png"]).strip()
                parts.append(f"![What the code above draws](data:image/png;base64,{png})")
        if said := "".join("".join(output.get("text", "")) for output in outputs).rstrip():
            parts.append(f'```{{ .text .said title="prints" }}\n{said}\n```')
    return "\n\n".join(parts)
