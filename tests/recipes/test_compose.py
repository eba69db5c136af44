"""Recipes that build on others: what is merged, what wins, and what is refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from switchnorm.config.claim import make_claim
from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.errors import InputError
from switchnorm.recipes import bases, find_recipe, recipes, shipped_file
from switchnorm.recipes.compose import read_recipe

SHARED = """
model: {name: digits_resnet9, norm: sn, options: {}}
data: {name: digits}
train: {epochs: 2, batch_size: 32, samples_per_gpu: 4}
schedule: {name: step, milestones: [1, 2]}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a file and returns its path; paths are relative to the working directory."""
    monkeypatch.chdir(tmp_path)

    def written(path: str, text: str) -> Path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
        return Path(path)

    return written


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def plainly(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_a_recipe_without_bases_is_what_it_says(write):
    path = write("r.yaml", SHARED)
    assert read_recipe(path).content == plainly(path)


def test_mappings_are_merged_key_by_key_and_everything_else_is_replaced(write):
    write("shared.yaml", SHARED)
    path = write(
        "r.yaml",
        """
base: shared.yaml
model: {norm: ssn, options: {dropout: 0.5}}
train: {samples_per_gpu: null}
schedule: {milestones: [1]}
seed: 3
""",
    )
    found = read_recipe(path)
    assert found.content == {
        "model": {"name": "digits_resnet9", "norm": "ssn", "options": {"dropout": 0.5}},
        "data": {"name": "digits"},
        "train": {"epochs": 2, "batch_size": 32, "samples_per_gpu": None},
        "schedule": {"name": "step", "milestones": [1]},
        "seed": 3,
    }
    origin = {key: str(place) for key, place in found.origin.items()}
    assert origin["model.name"] == "shared.yaml, line 2"
    assert origin["model.norm"] == origin["model.options.dropout"] == "r.yaml, line 3"
    assert origin["train.epochs"] == "shared.yaml, line 4"
    assert origin["train.samples_per_gpu"] == "r.yaml, line 4"
    assert not any(key.startswith("base") for key in origin)


def test_null_replaces_a_mapping_and_a_mapping_replaces_null(write):
    write("one.yaml", "a: {b: 1, c: {d: 2}}\ne: null")
    found = read_recipe(write("r.yaml", "base: one.yaml\na: null\ne: {f: 3}"))
    assert found.content == {"a": None, "e": {"f": 3}}
    assert found.origin.keys() == {"a", "e", "e.f"}


def test_later_bases_win_over_earlier_ones_and_the_file_over_all(write):
    write("one.yaml", "a: {x: 1, y: 1, z: 1}\nb: [1, 1]")
    write("two.yaml", "a: {y: 2, z: 2}\nb: [2]")
    both = read_recipe(write("r.yaml", "base: [one.yaml, two.yaml]\na: {z: 3}"))
    assert both.content == {"a": {"x": 1, "y": 2, "z": 3}, "b": [2]}
    assert [both.origin[key].file for key in ("a.x", "a.y", "a.z", "b")] == [
        "one.yaml",
        "two.yaml",
        "r.yaml",
        "two.yaml",
    ]
    turned = read_recipe(write("r.yaml", "base: [two.yaml, one.yaml]\na: {z: 3}"))
    assert turned.content == {"a": {"x": 1, "y": 1, "z": 3}, "b": [1, 1]}


def test_bases_have_bases_and_paths_are_relative_to_the_file_that_names_them(write):
    write("shared/deep/first.yaml", "a: {x: 1}\nb: 1")
    write("shared/second.yml", "base: deep/first.yaml\na: {y: 2}")
    found = read_recipe(write("mine/r.yaml", "base: ../shared/second.yml\na: {z: 3}"))
    assert found.content == {"a": {"x": 1, "y": 2, "z": 3}, "b": 1}
    assert str(found.origin["b"]) == "mine/../shared/deep/first.yaml, line 2"


def test_two_bases_may_share_a_base(write):
    write("root.yaml", "a: 1\nb: 1")
    write("left.yaml", "base: root.yaml\nb: 2")
    write("right.yaml", "base: root.yaml\nc: 3")
    # "right" wins with everything that it says, and that includes what its own base says.
    assert read_recipe(write("r.yaml", "base: [left.yaml, right.yaml]")).content == {"a": 1, "b": 1, "c": 3}


def test_a_shipped_recipe_is_a_base_by_name_wherever_the_file_is(write):
    path = write("somewhere/else/r.yaml", "base: cifar10/resnet20\ntrain: {epochs: 5}\nschedule: {milestones: [3]}")
    shipped = read_recipe(find_recipe("cifar10/resnet20")).content
    found = read_recipe(path)
    assert found.content == {
        **shipped,
        "train": {**shipped["train"], "epochs": 5},
        "schedule": {"name": "step", "milestones": [3]},
    }
    assert found.origin["model.name"].file == "cifar10/resnet20.yaml"
    config = read_config(path, ["--norm", "sn"])
    assert (config.model.name, config.model.norm, config.train.epochs) == ("cifar_resnet20", "sn", 5)
    assert "base" not in yaml.safe_load(to_yaml(config))


def test_a_claim_is_of_the_recipe_that_states_it(write):
    assert read_config(find_recipe("cifar10/resnet110")).claim["error"] == 6.11
    shorter = "base: cifar10/resnet110\ntrain: {epochs: 2}\nschedule: {milestones: []}\n"
    assert read_config(write("r.yaml", shorter)).claim == make_claim()
    assert read_config(write("r.yaml", shorter + "claim: {error: 7}")).claim == make_claim(error=7)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nbase: cifar10/resnt20", 2, "base 'cifar10/resnt20' is unknown; did you mean 'cifar10/resnet20'?"),
        (
            "base: [sub/a.yaml, cifar10/bearpaw]",
            1,
            "base 'cifar10/bearpaw' is unknown; did you mean 'cifar10/_bearpaw'?",
        ),
        ("base: sub/b.yaml", 1, "base 'sub/b.yaml' is unknown; did you mean 'sub/a.yaml'?"),
        ("base: digits/resnet9.yaml", 1, "base 'digits/resnet9.yaml' is unknown; did you mean 'digits/resnet9'?"),
        ("base: ''", 1, "base '' is unknown; choose from "),
        ("a: 1\nbase: 3", 2, "base must be a name or a list of names, got 3"),
        ("base:", 1, "base must be a name or a list of names, got None"),
        ("base: []", 1, "base must be a name or a list of names, got []"),
        ("base: [sub/a.yaml, 1]", 1, "base must be a name or a list of names, got ['sub/a.yaml', 1]"),
        ("base: {a: 1}", 1, "base must be a name or a list of names, got {'a': 1}"),
        ("a: 1\nbase: r.yaml", 2, "bases lead back to themselves: r.yaml -> r.yaml"),
        ("base: sub/a.yaml\nb: 0\na: 3", 3, "a must be a mapping of x, y as in sub/a.yaml, line 1, got 3"),
        ("base: sub/a.yaml\na: [1]", 2, "a must be a mapping of x, y as in sub/a.yaml, line 1, got [1]"),
        ("base: sub/a.yaml\na:\n  x: {z: 1}", 3, "a.x must be a value without keys as in sub/a.yaml, line 2, got {'z'"),
    ],
)
def test_what_cannot_be_composed_is_refused_by_file_and_line(write, text, line, message):
    write("sub/a.yaml", "a:\n  x: 1\n  y: 2\n")
    assert refusal(write("r.yaml", text)).startswith(f"r.yaml, line {line}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: ../r.yaml", "sub/a.yaml, line 1: bases lead back to themselves: r.yaml -> sub/a.yaml -> sub/../r.yaml"),
        ("a: 1\nbase: c.yaml", "sub/a.yaml, line 2: base 'c.yaml' is unknown; did you mean 'a.yaml'?"),
        ("a: 1\nb: 2\na: 3\n", "sub/a.yaml, line 3: key 'a' is also set in line 1; leave one of them"),
        ("# nothing", "sub/a.yaml is no recipe"),
    ],
)
def test_an_error_in_a_base_names_the_base(write, text, message):
    write("sub/a.yaml", text)
    assert refusal(write("r.yaml", "base: sub/a.yaml")).startswith(message)


def test_a_circle_is_named_without_the_way_that_led_to_it(write):
    write("a.yaml", "base: b.yaml")
    write("b.yaml", "base: c.yaml")
    write("c.yaml", "x: 1\nbase: b.yaml")
    message = "c.yaml, line 2: bases lead back to themselves: b.yaml -> c.yaml -> b.yaml"
    assert refusal(Path("a.yaml")) == message


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("train: {epochs: many}", (), "r.yaml, line 2: train.epochs: expected int"),
        ("train: {epochs: 0}", (), "r.yaml, line 2: train.epochs must be at least 1, got 0"),
        ("seed: 0\ntrain: {epoch: 3}", (), "r.yaml, line 3: key 'train.epoch' is unknown; did you mean 'train.epochs'"),
        ("schedule: {warmup_epochs: 2}", (), "r.yaml, line 2: schedule.warmup_epochs must be below 2, got 2"),
        ("schedule: {warmup_epochs: 2}", ("--epochs=1",), "r.yaml, line 2: schedule.warmup_epochs must be below 1"),
        ("train: {epochs: 3}", ("--epochs", "0"), "train.epochs must be at least 1, got 0"),
        ("optimizer: {momentum: 0}", (), "shared.yaml, line 6: optimizer.nesterov needs a momentum above 0"),
    ],
)
def test_wrong_values_are_named_with_the_file_and_line_that_set_them(write, text, flags, message):
    write("shared.yaml", SHARED + "optimizer: {nesterov: true}\n")
    with pytest.raises(InputError) as caught:
        read_config(write("r.yaml", f"base: shared.yaml\n{text}"), flags)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", bases())
def test_every_shipped_file_is_read_and_says_in_a_comment_what_it_is(name):
    assert read_recipe(shipped_file(name)).content
    assert shipped_file(name).read_text().startswith("# ")


@pytest.mark.parametrize("name", bases())
def test_no_shipped_file_repeats_what_its_bases_say(name, write):
    own = plainly(shipped_file(name))
    named = own.pop("base", None)
    if named is not None:
        inherited = read_recipe(write("bases.yaml", yaml.safe_dump({"base": named}))).content
        assert not repeated(own, inherited)


def repeated(own: dict, inherited: dict, prefix: str = "") -> list[str]:
    """The keys that two contents give the same value."""
    found = []
    for key, value in own.items():
        if isinstance(value, dict):
            found += repeated(value, inherited.get(key, {}), f"{prefix}{key}.")
        elif key in inherited and inherited[key] == value:
            found.append(f"{prefix}{key}")
    return found


def test_what_recipes_share_is_no_recipe_itself_claims_nothing_and_is_used():
    shared = set(bases()) - set(recipes())
    named: set[str] = set()
    for name in bases():
        of_this = plainly(shipped_file(name)).get("base", [])
        named.update([of_this] if isinstance(of_this, str) else of_this)
    assert {name for name in bases() if "/_" in name} == shared
    assert shared <= named
    assert not any("claim" in plainly(shipped_file(name)) for name in shared)
    with pytest.raises(InputError, match="recipe 'cifar10/_bearpaw' is unknown"):
        find_recipe("cifar10/_bearpaw")
