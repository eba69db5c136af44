"""The pages on the tasks against the code: every recipe, every key, every command."""

from __future__ import annotations

import dataclasses
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest

from switchnorm.cli import parser as command_line
from switchnorm.cli.networks import split, weights_config
from switchnorm.cli.predict import named_classes
from switchnorm.config.claim import make_claim
from switchnorm.config.recipe import data_config, read_config
from switchnorm.config.schema import SECTIONS, Config
from switchnorm.config.task_spec import tasks
from switchnorm.data import dataset_classes
from switchnorm.models.options import SHARED
from switchnorm.models.registry import FAMILIES
from switchnorm.recipes import find_recipe, recipes
from tests.recipes.configs import config_of

DOCS = Path(__file__).parents[2] / "docs"
TASKS = ("classification", "segmentation", "detection")
PAGES = {task: (DOCS / f"{task}.md").read_text(encoding="utf-8") for task in TASKS}


def commands(task: str) -> list[str]:
    page = PAGES[task].replace("\\\n", "")
    return re.findall(r"^    (?:torchrun .* -m )?(switchnorm [^.].*)$", page, re.MULTILINE)


def own_recipe() -> str:
    """The recipe that the page on classification shows as somebody's own."""
    shown = re.search(r"^    # my.yaml\n(?:    .*\n)+", PAGES["classification"], re.MULTILINE)
    return textwrap.dedent(shown.group())


COMMANDS = [command for task in TASKS for command in commands(task)]


def section(task: str, title: str) -> str:
    return PAGES[task].partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a text's tables, but for their heads."""
    tables = re.findall(r"^\|(?:---\|)+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


def keys(text: str) -> list[str]:
    """What stands in the first column of a text's tables, as code."""
    return [key for row in rows(text) for key in re.findall(r"`([^`]*)`", row[0])]


def claimed(claim: dict[str, Any]) -> str:
    if claim["error"] is not None:
        return f"error {claim['error']:.2f}"
    numbers = (claim["top1"], claim["top5"], claim["mean_iou"], claim["pixel_accuracy"], claim["overall"])
    numbers += (claim["box_ap"], claim["mask_ap"])
    return " / ".join(f"{number:.2f}" for number in numbers if number is not None)


def names(schema: type) -> set[str]:
    return {field.name for field in dataclasses.fields(schema)}


@pytest.mark.parametrize("task", TASKS)
def test_the_table_lists_every_recipe_with_its_network_and_claim(task):
    configs = {name: config_of(name) for name in recipes()}
    expected = [
        [f"`{name}`", f"`{config.model.name}`", claimed(config.claim)]
        for name, config in configs.items()
        if config.task == task
    ]
    found = rows(section(task, "Recipes"))
    assert [row[:3] for row in found] == expected
    assert all(row[3] for row in found), "say what was measured, or that nothing was"


def test_the_tables_of_features_have_every_key_once_and_no_other():
    expected = {f"{part}.{key}" for part, schema in SECTIONS.items() for key in names(schema)}
    for task in tasks().values():
        expected |= {f"{task.name}.{key}" for key in names(task.section)} if task.section else set()
    expected |= {f"claim.{key}" for key in make_claim()}
    # `given` is about the others: which of them somebody has set.
    expected |= names(Config) - set(SECTIONS) - {"data", "tasks", "claim", "given"}
    tables = section("classification", "Training features") + "".join(section(task, "Train") for task in TASKS[1:])
    listed = [key.removesuffix(".KEY") for key in keys(tables)]
    assert len(listed) == len(set(listed))
    # A recipe's own network stands in the table of recipes.
    assert set(listed) == expected - {"model.name"}


@pytest.mark.parametrize(
    ("task", "representative"),
    [("classification", "folder"), ("segmentation", "ade20k"), ("segmentation", "masks")]
    + [("detection", name) for name in ("coco", "voc", "yolo")],
)
def test_the_tables_of_data_know_every_dataset_and_every_key(task, representative):
    listed = keys(section(task, "Data"))
    datasets = [key for key in listed if not key.startswith("data.")]
    assert set(datasets) == {name for name, dataset in dataset_classes().items() if dataset.task == task}
    known = set().union(*(names(dataset) for dataset in dataset_classes().values() if dataset.task == task))
    options = {key.removeprefix("data.") for key in listed if key.startswith("data.")}
    assert options <= known
    described = options | set(re.findall(r"`(?:--data\.)?(\w+)", section(task, "Data")))
    assert names(dataset_classes()[representative]) <= described


def test_the_table_of_networks_knows_every_family_and_its_options():
    described: dict[str, set[str]] = {}
    for names_, _, options in rows(section("classification", "Networks")):
        found = set(re.findall(r"`([a-z_]+)`", options))
        described |= dict.fromkeys(re.findall(r"`([^`]*)`", names_), found)
        if names_ == "any":
            assert found == set(SHARED)
    for family in FAMILIES:
        if family.task != "classification":
            continue
        named = [name for name in described if family.numbers(name) is not None]
        assert named, family
        assert all(described[name] == set(family.options()) for name in named), family


@pytest.mark.parametrize("task", TASKS[1:])
def test_the_tables_of_networks_by_parts_have_their_options(task):
    listed = {key.removeprefix("model.options.") for key in keys(section(task, "Networks")) if "." in key}
    options = {option for family in FAMILIES if family.task == task for option in family.options()}
    assert listed == options | set(SHARED)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in shlex.split(command, comments=True)[1:] if word != "COMMAND"]
    options, rest = command_line().parse_known_args(words)
    if options.command == "train" and options.resume is not None:
        assert rest in ([], ["--data.root", "MOVED"])
    elif options.command in ("train", "study") and rest:
        name = rest[0] if options.command == "train" else options.recipe or "cifar10/geometry"
        if name == "my.yaml":
            Path(name).write_text(own_recipe())
        elif name == "RUN/config.yaml":
            name = "cifar10/resnet20"
        read_config(find_recipe(name), rest[1:])
    elif options.command in ("eval", "predict") and options.weights is not None:
        named = named_classes(options, rest)[0] if options.command == "predict" else []
        weights_config(options, [*named, *split(rest)[1]])
    elif options.command == "predict":
        assert split(rest) in [(["RUN", picture, "holiday/"], []) for picture in ("cat.jpg", "street.jpg")]
    elif options.command == "check":
        if rest[0].startswith("-"):
            data_config(rest)
        elif rest != ["RUN"]:
            Path("my.yaml").write_text(own_recipe())
            read_config(find_recipe(rest[0]), rest[1:])
    else:
        assert rest in ([], ["RUN"], ["RUN", "--data.root", "OTHER"]), "nobody would understand these"


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("classification", {"train", "eval", "inspect", "report", "convert", "study"}),
        ("segmentation", {"train", "eval", "predict", "study"}),
        ("detection", {"train", "eval", "predict", "study"}),
    ],
)
def test_there_are_commands_of_every_kind(task, kinds):
    assert {command.split()[1] for command in commands(task)} >= kinds
