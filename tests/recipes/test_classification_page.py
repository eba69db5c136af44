"""docs/classification.md against the code: every recipe, every key, every command."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from switchnorm.cli import parser as command_line
from switchnorm.data import DATASETS, Folder
from switchnorm.recipes import find_recipe, recipes
from switchnorm.training.config import ClaimConfig, Config
from switchnorm.training.recipe import SECTIONS, evaluation_config, read_config

PAGE = (Path(__file__).parents[2] / "docs" / "classification.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (?:torchrun .* -m )?(switchnorm .*)$", PAGE, re.MULTILINE)


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of a section's tables, but for their heads."""
    tables = re.findall(r"^\|(?:---\|)+\n((?:\|.*\n)+)", section(title), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


def keys(title: str) -> list[str]:
    """What stands in the first column of a section's tables, as code."""
    return [key for row in rows(title) for key in re.findall(r"`([^`]*)`", row[0])]


def claimed(claim: ClaimConfig) -> str:
    if claim.error is not None:
        return f"error {claim.error:.2f}"
    return "" if claim.top1 is None else f"{claim.top1:.2f} / {claim.top5:.2f}"


def names(schema: type) -> set[str]:
    return {field.name for field in dataclasses.fields(schema)}


def test_the_table_lists_every_recipe_with_its_network_and_claim():
    configs = {name: read_config(find_recipe(name)) for name in recipes()}
    expected = [[f"`{name}`", f"`{config.model.name}`", claimed(config.claim)] for name, config in configs.items()]
    assert [row[:3] for row in rows("Recipes")] == expected
    assert all(row[3] for row in rows("Recipes")), "say what was measured, or that nothing was"


def test_the_table_of_features_has_every_key_once_and_no_other():
    expected = {f"{part}.{key}" for part, schema in SECTIONS.items() for key in names(schema)}
    expected |= names(Config) - set(SECTIONS) - {"data"}
    listed = [key.removesuffix(".KEY") for key in keys("Training features")]
    assert len(listed) == len(set(listed))
    # A recipe's own network stands in the table of recipes.
    assert set(listed) == expected - {"model.name"}


def test_the_tables_of_data_know_every_dataset_and_every_key():
    listed = keys("Data")
    datasets = [key for key in listed if not key.startswith("data.")]
    assert set(datasets) == set(DATASETS)
    options = {key.removeprefix("data.") for key in listed if key.startswith("data.")}
    assert options <= names(Folder)
    described = options | set(re.findall(r"`(?:--data\.)?(\w+)", section("Data")))
    assert names(Folder) <= described


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in shlex.split(command)[1:] if word != "COMMAND"]
    options, rest = command_line().parse_known_args(words)
    if options.command in ("train", "study") and rest:
        name = rest[0] if options.command == "train" else options.recipe or "cifar10/geometry"
        if name == "my.yaml":
            Path(name).write_text(find_recipe("digits/resnet9").read_text())
        read_config(find_recipe(name), rest[1:])
    elif options.command == "eval" and options.weights is not None:
        evaluation_config(rest)
    else:
        assert rest in ([], ["RUN"]), "nobody would understand these"


def test_there_are_commands_of_every_kind():
    assert {command.split()[1] for command in COMMANDS} >= {"train", "eval", "inspect", "report", "convert", "study"}
