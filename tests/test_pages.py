"""README.md, docs/ and the pages beside them name files that exist, and rooms in the order that `make lint` holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import switchnorm
from tests.pages import PAGES, ROOT, read

DESIGN = read("docs/design.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    folder = ROOT
    for name in re.findall(r"`((?:tests/)?[\w/]+\.py)`", page.read_text(encoding="utf-8")):
        if name.startswith("tests/"):
            folder = (ROOT / name).parent
        if name.startswith(("tests/", "test_")):
            path = ROOT / name if "/" in name else folder / name
            assert path.is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for place in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / place).exists(), place


def test_every_promise_about_data_and_runs_names_tests_and_what_is_not_promised() -> None:
    _, *sections = re.split(r"^## ", read("docs/reliability.md"), flags=re.MULTILINE)
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


def test_every_public_name_is_on_a_page_of_the_api() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    names = {re.sub(r"[123]d$", "", name) for name in switchnorm.__all__} - {"__version__", "ops"}
    assert not {name for name in names if not re.search(rf"\.{name}(?:2d)?$", shown, re.MULTILINE)}


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = set(re.findall(r"[\w/]+\.md$", read("mkdocs.yml"), re.MULTILINE))
    there = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert {each.replace(".ipynb", ".md") for each in there} | {
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    } == listed
