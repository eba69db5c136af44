"""docs/, README.md and CONTRIBUTING.md name files that exist, and rooms in the order that `make lint` holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
DESIGN = (ROOT / "docs/design.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_are_named_exist(page: Path) -> None:
    folder = ROOT
    for name in re.findall(r"`((?:tests/)?[\w/]+\.py)`", page.read_text(encoding="utf-8")):
        if name.startswith("tests/"):
            folder = (ROOT / name).parent
        if name.startswith(("tests/", "test_")):
            path = ROOT / name if "/" in name else folder / name
            assert path.is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for place in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / place).exists(), place


def test_every_promise_about_data_and_runs_names_tests_and_what_is_not_promised() -> None:
    _, *sections = re.split(r"^## ", (ROOT / "docs/reliability.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for section in sections:
        assert re.search(r"^Tests\b.*`tests/", section, re.MULTILINE), section.partition("\n")[0]
        assert re.search("^Not promised: ", section, re.MULTILINE), section.partition("\n")[0]


def test_the_rooms_are_those_of_the_package() -> None:
    rooms = DESIGN.partition("## Rooms")[2].partition("    tests/ ")[0]
    named = re.findall(r"^ {6}(\w+)(?:\.py|/) ", rooms, re.MULTILINE)
    there = {path.stem for path in (ROOT / "switchnorm").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(named) == there - {"__init__", "__main__", "__pycache__", "py"}
    layers = re.findall(
        r'"([\w| ]+)"', (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    )
    floor = {room: number for number, layer in enumerate(reversed(layers)) for room in layer.split(" | ")}
    assert [floor[room] for room in named] == sorted(floor.values())


def test_the_files_of_the_rooms_exist() -> None:
    rooms = DESIGN.partition("## Rooms")[2].partition("    tests/ ")[0]
    there = {path.name for path in (ROOT / "switchnorm").rglob("*.py")}
    assert set(re.findall(r"\w+\.py", rooms)) <= there
