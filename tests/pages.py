"""README.md, docs/ and the tutorial, as tests run what stands in them: blocks of Python, and command lines."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
#: Every page, the tutorial too.
PAGES = (
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.ipynb")),
    *sorted(ROOT.glob("*.md")),
)
#: What command lines begin with.
PROGRAMS = "switchnorm|torchrun|python|pip|make|eval|\\.venv/bin/python|\\.venv-hosts/bin/python"
#: What a page for people asks for and a test does without: weights from a network.
DOWNLOADS = {"pretrained=True": "pretrained=False", 'weights="DEFAULT"': "weights=None"}

_COMMAND = re.compile(rf" {{4,8}}((?:{PROGRAMS}) .*)")


class Step(NamedTuple):
    """What somebody who follows a page does next.

    Attributes:
        kind: "python" or "sh".
        text: a block of code, or a command line without its comment.
    """

    kind: str
    text: str


def read(page: str | Path) -> str:
    """The text of a page, named from the root of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def steps(page: str | Path) -> list[Step]:
    """All that a page has to run, in its order."""
    if str(page).endswith(".ipynb"):
        cells = json.loads(read(page))["cells"]
        code = (Step("python", "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code")
        return [*code]
    return [*_steps(read(page).splitlines())]


def blocks(page: str | Path) -> list[str]:
    """The blocks of Python."""
    return [step.text for step in steps(page) if step.kind == "python"]


def commands(page: str | Path) -> list[str]:
    """The command lines."""
    return [step.text for step in steps(page) if step.kind == "sh"]


def execute(
    page: str | Path, names: Mapping[str, Any] | None = None, instead: Mapping[str, str] = DOWNLOADS
) -> dict[str, Any]:
    """Run the blocks one after the other, as somebody who follows the page; the names that there are then.

    Args:
        page: of which.
        names: what the reader has already, such as data.
        instead: what stands there, and what is run.
    """
    known = dict(names or {})
    for number, block in enumerate(blocks(page), 1):
        for asked, done in instead.items():
            block = block.replace(asked, done)
        exec(compile(block, f"{page}, block {number}", "exec"), known)
    return known


def _steps(lines: list[str]) -> Iterator[Step]:
    rest = iter(lines)
    for line in rest:
        if line.startswith("```python"):
            yield Step("python", "".join(f"{inner}\n" for inner in iter(lambda: next(rest), "```")))
        elif line.startswith("```"):
            for _ in iter(lambda: next(rest), "```"):
                pass
        elif found := _COMMAND.fullmatch(line):
            command = found[1]
            while command.endswith("\\"):
                command = f"{command[:-1].rstrip()} {next(rest).strip()}"
            yield Step("sh", shlex.join(shlex.split(command, comments=True)) if "$(" not in command else command)
