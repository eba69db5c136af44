"""README.md: a screen and a half, with two commands, the picture, and a loop of eight lines that makes SSN sparse."""

from __future__ import annotations

import re
from typing import Any

import torch

from tests import pages

PAGE = "README.md"


def test_it_begins_with_the_problem_two_commands_and_the_picture() -> None:
    text = pages.read(PAGE)
    assert len(text.splitlines()) <= 100
    assert list(pages.commands(PAGE)[:2]) == ["make demo", "make test"]
    assert text.index("Batch Norm fails") < text.index("make demo") < text.index("docs/report.png")


def test_its_first_examples_are_pretrained_networks() -> None:
    assert all(asked in block for asked, block in zip(pages.DOWNLOADS, pages.blocks(PAGE), strict=True))


def test_the_plain_loop_has_eight_lines_and_makes_ssn_sparse() -> None:
    assert len(pages.blocks(PAGE)[1].splitlines()) == 8
    batches = [(torch.randn(2, 3, 64, 64), torch.tensor([0, 1])) for _ in range(3)]
    names: dict[str, Any] = pages.execute(PAGE, {"batches": batches})
    assert all(layer.radius == 1 for layer in names["model"].modules() if hasattr(layer, "radius"))


def test_the_numbers_are_those_of_the_pages_that_have_them() -> None:
    rows = re.findall(r"^\| \[\w[\w-]+\]\((docs/results/\w+\.md)\)[^|]*\|(.*)\|$", pages.read(PAGE), re.MULTILINE)
    assert len(rows) == 3
    for page, cells in rows:
        there = set(re.findall(r"\d+\.\d+", pages.read(page)))
        rounded = {f"{float(number):.1f}" for number in there}
        assert set(re.findall(r"\d+\.\d", cells)) <= rounded, page
