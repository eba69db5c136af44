"""Recipe and flags -> configuration, and back to YAML."""

from __future__ import annotations

import argparse
import inspect
import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import yaml

from switchnorm.config import plugins
from switchnorm.config.claim import claim_keys, is_changed, make_claim
from switchnorm.config.elsewhere import UnknownFlagError, unknown_flag
from switchnorm.config.keys import OPEN, SHORT, flatten
from switchnorm.config.limits import check
from switchnorm.config.schema import SECTIONS, Config, GroupConfig
from switchnorm.config.task_spec import find_task, own_tasks, tasks
from switchnorm.data import create_dataset, dataset_class, dataset_classes
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.recipes.compose import read_recipe
from switchnorm.recipes.located import Located, check_value, written

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from switchnorm.data import Dataset

#: How errors describe an element of optimizer.groups.
_GROUP = "expected {match: GLOB, lr_factor: FACTOR, weight_decay: W}"

#: What keys that hold names and values may be, for errors.
_MAPPINGS = {
    "model.norms": "{body: bn, neck: sn}; one normalizer for all parts is model.norm",
    "model.options": "{momentum: 0.05}",
    "optimizer.options": "{eps: 1e-6}",
}


def read_config(recipe: Path, flags: Sequence[str] = ()) -> Config:
    """The configuration that a recipe and flags make together; flags win.

    A claim is about the recipe as it is written: flags that change what is trained take it away.

    Args:
        recipe: a YAML file; what its bases say counts as written in it.
        flags: "--key", "value" or "--key=value" with the keys of the configuration ("train.epochs") or of `SHORT`.

    Raises:
        InputError: an unknown key, with the nearest valid one, or a value of the wrong type or out of range;
            names the file and line where it was set.
    """
    named, flags = plugins.split(flags)
    plugins.load(named)
    written = read_recipe(recipe)
    typed, flags = flags, _long(flags)
    try:
        wanted = _plugins(written.content)
        plugins.load_known(wanted, str(recipe))
        dataset = _dataset_name(written.content, flags, recipe.name)
        keys = _keys(dataset)
        for key, value in flatten(written.content, keys):
            if not _is_key(key, keys):
                raise unknown_flag(f"{written.origin[key]}: key", key, keys)
            if value is None and not _may_be_null(key, _parser(dataset)):
                raise InputError(f"{key} must not be null; leave it out for its default, or give a value")
        config = check(_parse(dataset, written.content, flags))
    except UnknownFlagError:  # which says itself where a key is
        raise
    except InputError as error:
        raise InputError(_located(str(error), written, flags, typed)) from error
    config.plugins = tuple(dict.fromkeys((*wanted, *named)))
    config.given = _given_data([*(f"--{key}" for key, _ in flatten(written.content, keys)), *flags])
    if config.claim != make_claim() and flags:
        original = _without_flags(written.content, recipe)
        if original is None or is_changed(original, config):
            given = {flag.partition("=")[0] for flag in flags}
            kept = {key: value for key, value in config.claim.items() if f"--claim.{key}" in given}
            config = replace(config, claim=make_claim(**kept))
    return config


def evaluation_config(flags: Sequence[str]) -> Config:
    """The configuration that flags alone make, for evaluating: a model, a dataset, and how to compute.

    Raises:
        InputError: as `read_config`.
    """
    named, flags = plugins.split(flags)
    plugins.load(named)
    flags = _long(flags)
    dataset = _dataset_name({}, flags, "the command line")
    pictures = find_task(dataset_class(dataset).task).evaluation_batch
    config = _parse(dataset, {}, ["--train.epochs=1", f"--train.batch_size={pictures}", *flags])
    return check(replace(config, plugins=tuple(named), given=_given_data(flags)))


def data_config(flags: Sequence[str]) -> Config:
    """The configuration that flags alone make, for looking at data: a dataset, and any network of its task.

    Raises:
        InputError: as `read_config`.
    """
    names = _long(plugins.split(flags)[1])
    task = find_task(dataset_class(_dataset_name({}, names, "the command line")).task)
    return evaluation_config([f"--model.name={task.example}", *flags])


def values_of(recipe: str | None = None, dataset: str | None = None) -> dict[str, list[str]]:
    """The keys of the configuration, each with the values that it takes, where its type lists them; else with none.

    Args:
        recipe: the name of one, whose dataset's options are among them.
        dataset: the same of another dataset, which wins; without both those of digits.

    Raises:
        InputError: no such recipe or dataset.
    """
    if dataset is None:
        dataset = "digits" if recipe is None else _dataset_name(read_recipe(find_recipe(recipe)).content, (), recipe)
    parser = _parser(dataset)
    types = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    return {key: _listed(types.get(key)) for key in _keys(dataset)}


def to_yaml(config: Config) -> str:
    """The configuration as a recipe that `read_config` turns into the same configuration."""
    content = config.content()
    # What a task of the user's own adds is written for its runs alone: others can be read without that task.
    for name, task in tasks().items():
        if name not in (config.task, *own_tasks()):
            content.pop(name, None)
            for claim in task.claims:
                content["claim"].pop(claim.key)
    return written(content)


def _parser(dataset: str) -> ArgumentParser:
    """The parser of all keys that there are."""
    return _made_parser(dataset, dataset_class(dataset), tuple(_sections().items()), tuple(claim_keys()))


def _sections() -> dict[str, type]:
    """The classes of the sections but `data`, by name: those of all runs, then those of tasks."""
    return {**SECTIONS, **{name: task.section for name, task in tasks().items() if task.section is not None}}


@lru_cache(maxsize=8)  # making one takes as long as parsing
def _made_parser(
    dataset: str, data: type[Dataset], sections: tuple[tuple[str, type], ...], claims: tuple[str, ...]
) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--task", type=str, default=data.task)
    parser.add_argument("--plugins", type=list[str], default=[])
    parser.add_argument("--label", type=str | None, default=None)
    parser.add_argument("--seed", type=int, default=0)
    for name, section in sections:
        parser.add_class_arguments(section, name)
    for key in claims:
        parser.add_argument(f"--claim.{key}", type=float | None, default=None)
    for key in ("source", "status"):
        parser.add_argument(f"--claim.{key}", type=str, default="")
    parser.add_argument("--claim.warm_start", type=bool, default=False)
    parser.add_argument("--data.name", type=str, default=dataset)
    parser.add_class_arguments(data, "data")
    return parser


def _parse(dataset: str, content: dict[str, Any], flags: list[str]) -> Config:
    keys = _keys(dataset)
    known = [f"--{key}" for key in (*SHORT, *keys)]
    key = ""
    for flag in flags:
        value = flag
        if flag.startswith("--"):
            key, _, value = flag.partition("=")
        check_value(value, key or "a flag's value")
        if flag.startswith("--") and not _is_key(key[2:].removesuffix("+"), keys):
            raise unknown_flag("flag", key, known)
    try:
        values = _parser(dataset).parse_args([f"--config={yaml.safe_dump(content)}", *flags]).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise _left_over(error, known) or InputError(_one_line(error)) from error
    del values["config"]
    data = values["data"]["name"]
    if values["task"] != dataset_class(data).task:
        raise InputError(f"task {values['task']!r} does not fit {data!r}; the nearest is {dataset_class(data).task!r}")
    _check_data(values["data"])
    values["optimizer"]["groups"] = [GroupConfig(**group) for group in values["optimizer"]["groups"]]
    values["plugins"] = tuple(values["plugins"])
    made = {name: section(**values.pop(name)) for name, section in _sections().items()}
    values |= {name: made.pop(name) for name in SECTIONS}
    return Config(**values, tasks=made)


def _check_data(options: dict[str, Any]) -> None:
    """Raise `InputError` for an option that the dataset refuses; to make one reads nothing and imports no torch."""
    try:
        create_dataset(**options)
    except InputError as error:
        first = re.split(r"[: ]", str(error), maxsplit=1)[0]
        raise InputError(f"data.{error}" if first in options else str(error)) from error


def _left_over(error: Exception, known: Sequence[str]) -> InputError | None:
    """The error about an argument that is neither a flag here nor the value of one, if it is about that."""
    _, found, rest = str(error).partition("unrecognized arguments: ")
    if not found:
        return None
    first = rest.split()[0]
    if not first.startswith("-"):
        return InputError(f"argument {first!r} belongs to no flag; flags are written --KEY VALUE")
    return unknown_flag("flag", re.sub(r"^(-[A-Za-z])\d+$", r"\1", first), known)


def _plugins(content: dict[str, Any]) -> list[str]:
    """The plugins that a recipe names."""
    names = content.get("plugins", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"plugins must be a list of modules such as [my_norms], got {names!r}")
    return names


def _without_flags(content: dict[str, Any], recipe: Path) -> Config | None:
    """The configuration of a recipe without flags; None where it needs them."""
    try:
        return _parse(_dataset_name(content, (), recipe.name), content, [])
    except InputError:
        return None


def _located(message: str, written: Located, flags: Sequence[str], typed: Sequence[str]) -> str:
    """Begin a message about a key of the recipe with its file and line, unless a flag has set that key.

    A rule over two keys is about the recipe's, although it may be a flag that changed the other: it is named as it was
    `typed`.
    """
    key = "data.name" if message.startswith("dataset ") else re.split(r"[:, ]", message, maxsplit=1)[0]
    by_flag = any(re.split(r"[+=]", flag, maxsplit=1)[0] == f"--{key}" for flag in flags)
    if key not in written.origin or by_flag:
        return message
    where = f"{written.origin[key]}: {message}"
    flag = _to_blame(written.content, flags, typed)
    return where if flag is None else f"{flag} does not go with {where}"


def _to_blame(content: dict[str, Any], flags: Sequence[str], typed: Sequence[str]) -> str | None:
    """The flag, as it was typed, without which the recipe and all others go together; None where none is alone."""
    begins = [place for place, flag in enumerate(flags) if flag.startswith("--")]
    for begin, end in itertools.pairwise([*begins, len(flags)]):
        others = [*flags[:begin], *flags[end:]]
        try:
            check(_parse(_dataset_name(content, others, "the recipe"), content, others))
        except InputError:
            continue
        return " ".join(typed[begin:end])
    return None


def _keys(dataset: str) -> list[str]:
    """The keys that `_parser` knows, in its order, without waiting for it: so a wrong one is named at once."""
    classes = {**_sections(), "data": dataset_class(dataset)}
    parameters = {name: inspect.signature(each).parameters.values() for name, each in classes.items()}
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for found in parameters.values() for each in found):
        # To whom a dataset of the user's hands on its **options, jsonargparse reads in the source.
        return [key for key in _parser(dataset).get_defaults().keys() if key != "config"]  # noqa: SIM118, not a dict
    keys = {name: [f"{name}.{each.name}" for each in found] for name, found in parameters.items()}
    claims = [f"claim.{key}" for key in make_claim()]
    data = ["data.name", *keys.pop("data")]
    return ["task", "plugins", "label", "seed", *itertools.chain(*keys.values()), *claims, *data]


def _may_be_null(key: str, parser: ArgumentParser) -> bool:
    """Whether the type of a key allows null."""
    action = next((action for action in parser._actions if action.dest == key), None)
    hint = None if action is None else getattr(action, "_typehint", None)
    return action is None or type(None) in get_args(hint)


def _listed(of: Any) -> list[str]:
    """The values of a type that lists them, or of those of its union that do."""
    return [str(value) for one in (of, *get_args(of)) if get_origin(one) is Literal for value in get_args(one)]


def _is_key(key: str, keys: Sequence[str]) -> bool:
    return key in keys or key.startswith(tuple(f"{name}." for name in OPEN))


def _dataset_name(content: dict[str, Any], flags: Sequence[str], where: str) -> str:
    data = content.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    for flag, value in itertools.pairwise([*flags, ""]):
        key, equals, attached = flag.partition("=")
        if key == "--data.name":
            name = attached if equals else value
    if name is None:
        raise InputError(f"{where} names no dataset; add data.name, one of {', '.join(dataset_classes())}")
    dataset_class(str(name))  # raises for an unknown name, with the nearest known one
    return str(name)


def _given_data(flags: Sequence[str]) -> frozenset[str]:
    """The keys of `data` that are set by flags in their long form."""
    keys = (re.split(r"[+=]", flag, maxsplit=1)[0] for flag in flags)
    return frozenset(key.removeprefix("--data.") for key in keys if key.startswith("--data."))


def _long(flags: Sequence[str]) -> list[str]:
    """Spell out short flags; "-" within a flag is "_"."""
    spelled = []
    for flag in flags:
        key, equals, value = flag.partition("=")
        if key.startswith("--"):
            key = key[2:].replace("-", "_")
            key = "--" + SHORT.get(key, key)
        spelled.append(key + equals + value)
    return spelled


def _mapping(key: str) -> str:
    """What a key that holds names and values expects."""
    form = "{NAME: VALUE}"
    example = _MAPPINGS.get(key)
    return f"{key}: expected {form}. " if example is None else f"{key}: expected {form}, as {example}. "


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = re.sub(r"Problem with given class_path '\S+': ", "", text)
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"Not a valid subclass of GroupConfig\. (Got value: .*?) Subclass types .*", rf"{_GROUP}. \1", text)
    text = re.sub(r"[Ee]xpected (?:an? )?(?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", r"expected \1\2", text)
    several = re.fullmatch(
        r"(.*?): Does not validate against any of the Union.* Errors: (.*?) Given .*( value: .*)", text
    )
    if several:
        expected = re.findall(r"- [Ee]xpected (.*?)(?:\. Got value: .*?)?(?= - |$)", several[2])
        text = f"{several[1]}: expected {' or '.join(expected).replace('NoneType', 'null')}. Got{several[3]}"
    text = re.sub(r"^(\S+): expected dict\. ", lambda found: _mapping(found[1]), text)
    text = re.sub(r"^the following arguments are required: ([\w.]+)$", r"\1 is missing; give it, as --\1 VALUE", text)
    # A list of one is what was meant.
    return re.sub(r"^(\S+: expected list)\. Got value: ([\w.:/*?-]+)$", r"\1, as [\2]. Got value: \2", text)
