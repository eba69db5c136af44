"""Every number of a configuration has bounds, and an error that states them: of all keys, of all datasets."""

from __future__ import annotations

import functools
import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest

from switchnorm.config import recipe
from switchnorm.config.claim import claim_keys
from switchnorm.config.limits import RANGES
from switchnorm.config.schema import SECTIONS
from switchnorm.config.task_spec import tasks
from switchnorm.data import dataset_class, dataset_classes
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe

#: What no key takes, however it is meant.
ABSURD = ("nan", "1e308", "99999999999999999999", "-99999999999999999999", "true", "'x'")
#: What a key takes, or refuses by a bound that it states.
ODD = ("-1", "1e-320", "2147483648")

STATED = r"must (be|rise|differ)|needs|expected|exclude|takes|has no effect|is no multiple|is none|which longest|is for"


def form(hint: Any) -> str:
    """How a number is written for a key of that type: "{0}", or in a list; "" for a key of no number."""
    if hint in (int, float):
        return "{0}"
    if hint in (list[int], list[float]):
        return "[{0}, {0}, {0}]"
    return next(filter(None, map(form, get_args(hint))), "")


def numbers(prefix: str, schema: type) -> dict[str, str]:
    """The keys of numbers in a section, and how each is written."""
    hints = get_type_hints(schema)
    own = [each.name for each in fields(schema)] if is_dataclass(schema) else []
    return {f"{prefix}.{name}": form(hints[name]) for name in own if form(hints[name])}


def cases() -> dict[tuple[str, str], str]:
    """Every key of numbers, with a dataset that has it; those that datasets share once."""
    keys = {key: each for name, schema in SECTIONS.items() for key, each in numbers(name, schema).items()}
    keys |= {"seed": "{0}", **{f"claim.{key}": "{0}" for key in claim_keys()}}
    keys |= {
        f"optimizer.groups[0].{name}": f"[{{{{match: a, {name}: {{0}}}}}}]" for name in ("lr_factor", "weight_decay")
    }
    found = {("digits", key): each for key, each in keys.items()}
    for task in tasks().values():
        if task.section is not None:
            dataset = next(name for name in dataset_classes() if dataset_class(name).task == task.name)
            found |= {(dataset, key): each for key, each in numbers(task.name, task.section).items()}
    seen: set[tuple[str, str]] = set()
    for dataset in dataset_classes():
        schema = dataset_class(dataset)
        for key, each in numbers("data", schema).items():
            mark = (key, schema.task)
            if mark not in seen:
                seen.add(mark)
                found[dataset, key] = each
    return found


CASES = cases()


@pytest.fixture
def read(monkeypatch):
    """A key as the command line reads it; the parser is made once for each dataset, which takes most of the time."""
    monkeypatch.setattr(recipe, "_parser", PARSER)

    def read_key(dataset: str, key: str, value: str) -> str:
        """What is said of it; nothing where it is taken."""
        flag = f"--{key.partition('[')[0]}={CASES[dataset, key].format(value)}"
        has_root = "root" in get_type_hints(dataset_class(dataset))
        data = (f"--data={dataset}", *(("--data.root=.",) if has_root else ()))
        data += ("--data.classes_file=x",) if dataset == "masks" else ()
        try:
            if dataset == "digits":
                recipe.read_config(find_recipe("digits/resnet9"), (flag,))
            else:
                recipe.evaluation_config((*data, "--model=m", flag))
        except InputError as error:
            return str(error)
        return ""

    return read_key


PARSER = functools.cache(recipe._parser)


@pytest.mark.parametrize(("dataset", "key"), CASES)
def test_a_number_is_taken_or_refused_in_a_line_that_names_the_key_and_its_rule(read, dataset, key):
    said = {value: read(dataset, key, value) for value in (*ABSURD, *ODD)}
    # A rate is bounded by what float32 holds alone.
    assert [value for value in ABSURD if not said[value]] == ([ABSURD[2]] if key == "optimizer.lr" else [])
    for value, line in said.items():
        assert "\n" not in line
        assert len(line) < 300, value
        if line:
            assert key.rpartition(".")[2] in line, value
            assert re.search(STATED, line), (value, line)


def test_all_ranges_are_tried():
    assert {key for dataset, key in CASES if dataset == "digits"} >= RANGES.keys()
