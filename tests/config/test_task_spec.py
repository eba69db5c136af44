"""Registering tasks: what cannot be one is refused in one line, and what others register changes no other run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from switchnorm.config import task_spec
from switchnorm.config.ranges import Range
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.tasks import Claim, Flag, Metric, TaskSpec, find_task, register, tasks

pytestmark = pytest.mark.usefixtures("own_registry")


@dataclass
class Section:
    """Of a task.

    Args:
        width: a number.
    """

    width: int = 3


def spec(**changes: Any) -> TaskSpec:
    given: dict[str, Any] = {
        "name": "counting",
        "task": "nowhere:Task",
        "metrics": (Metric("val_count", "count", "count"),),
        "score_title": "count",
        "example": "none",
        "section": Section,
    }
    return TaskSpec(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ()}, "measures nothing"),
        ({"metrics": Metric("a", "b")}, "measures nothing"),
        *[({"name": name}, "cannot be called so") for name in ("train", "base", "claim", "help", "Big", "a b", "", 3)],
        ({"name": "segmentation"}, "is registered already"),
        ({"section": Section()}, "must be a dataclass"),
        ({"section": int}, "must be a dataclass"),
        ({"ranges": {"with": Range(0)}}, "did you mean 'width'"),
        ({"evaluated": ("widht",)}, "did you mean 'width'"),
        ({"flags": (Flag("smooth", "x"),)}, "must begin with '--'"),
        ({"claims": (Claim("top1", "top-1", "val_count"),)}, "is another task's"),
        ({"claims": (Claim("source", "s", "val_count"),)}, "is there already"),
        ({"claims": (Claim("n", "s", "val_count"),) * 2}, "is there already"),
    ],
)
def test_what_can_be_no_task_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        register(spec(**changes))
    assert "\n" not in str(caught.value)
    assert set(tasks()) == {"classification", "detection", "segmentation"}


def test_no_spec_is_refused() -> None:
    with pytest.raises(InputError, match="takes a TaskSpec, got str"):
        register("counting")  # type: ignore[arg-type]


@pytest.mark.parametrize("named", ["a.b:C", "json", "", "json:nothing"])
def test_a_string_that_names_nothing_is_one_line(named: str) -> None:
    with pytest.raises(InputError, match="names nothing that can be imported"):
        task_spec.loaded(named)


def test_runs_of_other_tasks_can_be_read_without_it(tmp_path: Path) -> None:
    register(spec(claims=(Claim("count", "count", "val_count"),), ranges={"width": Range(1)}))
    config = read_config(find_recipe("digits/resnet9"), ("--counting.width", "3"))
    assert config.tasks["counting"] == Section(3)
    with pytest.raises(InputError, match=r"counting\.width must be at least 1, got 0"):
        read_config(find_recipe("digits/resnet9"), ("--counting.width", "0"))
    with pytest.raises(InputError, match=r"counting\.\* needs a dataset with labels"):
        read_config(find_recipe("digits/resnet9"), ("--counting.width", "4"))
    written = yaml.safe_load(to_yaml(config))
    assert "counting" not in written
    assert "count" not in written["claim"]
    assert "segmentation" in written
    assert find_task("counting").columns[5] == "val_count"


@pytest.mark.parametrize(
    "content", ["optimizer: {lr: null}", "model: {options: null}", "train: {device: null}", "seed: null"]
)
def test_null_is_refused_where_a_key_needs_a_value(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.yaml").write_text(f"base: digits/resnet9\n{content}\n")
    with pytest.raises(InputError, match=r"r\.yaml, line 2: \S+ must not be null"):
        read_config(tmp_path / "r.yaml")


def test_an_unknown_dataset_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("base: digits/resnet9\ndata: {name: digit}\n")
    with pytest.raises(InputError, match=r"r\.yaml, line 2: dataset 'digit' is unknown; did you mean 'digits'"):
        read_config(tmp_path / "r.yaml")
    with pytest.raises(InputError, match=r"^dataset 'digt' is unknown"):
        read_config(tmp_path / "r.yaml", ("--data", "digt"))
