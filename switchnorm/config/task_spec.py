"""How a task describes itself: its metrics, its part of the configuration, its flags, and where its code is.

The description needs no torch. What needs it, the `Task` that trains and the report's sections, is named by a string
such as "switchnorm.tasks.classification.task:Classification" and imported on use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from switchnorm.config.ranges import Range
from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:
    from switchnorm.config.schema import Config

#: The package whose import registers the tasks that come with this library.
_BUILT_IN = "switchnorm.tasks"


@dataclass(frozen=True)
class Metric:
    """What validation measures: a fraction in [0, 1] of which more is better.

    Args:
        column: of metrics.csv, "val_accuracy".
        title: where a result is printed, "top-1".
        name: within a sentence of the report, "accuracy"; "" keeps it out of the report's tables.
    """

    column: str
    title: str
    name: str = ""


@dataclass(frozen=True)
class Claim:
    """What somebody may report for a training, in %: a key of the configuration's `claim`.

    Args:
        key: below `claim`, "top1".
        title: beside the measured result, "top-1".
        column: of metrics.csv, what it is held against.
        error: whether the claim is an error rate, 100 % less the column's value.
    """

    key: str
    title: str
    column: str
    error: bool = False


@dataclass(frozen=True)
class Flag:
    """A flag of `switchnorm eval` and its like that only runs of one task have.

    Args:
        name: "--flip".
        help: a line, which says what it does.
        commands: those that have it.
        key: of the configuration, which is set to the flag's value; "" sets none.
        options: of `argparse.ArgumentParser.add_argument`.
        output: where the flag names a file or folder to write: "package.module:Class", a
            `switchnorm.tasks.output.Output`.
        suffix: how the name of that file must end, ".npz"; "/" for a folder, "" for any file.
        changes: the name of another flag, without which this one means nothing; its output gets the value as an
            option.
        range: of a number.
    """

    name: str
    help: str
    commands: tuple[str, ...] = ("eval",)
    key: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""
    suffix: str = ""
    changes: str = ""
    range: Range | None = None

    @property
    def attribute(self) -> str:
        """What argparse calls it."""
        return self.name.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class TaskSpec:
    """A task: what the labels of a dataset are for, and so what a batch means.

    Args:
        name: in lower case, as datasets and networks name it; also the section of the configuration that is its own.
        task: the `switchnorm.tasks.Task` that trains: the class, or "package.module:Class".
        metrics: what validation measures, losses aside; the first is the score, by which runs are judged.
        score_title: the score where a result is printed, "validation accuracy".
        dataset: its name, for any pictures and any classes, which a file or a checkpoint names; "" for none.
        targets: what its datasets have with their pictures, "masks".
        example: a network for this task, which the error about a network for another task suggests.
        section: a dataclass whose fields, all with defaults, are the keys `NAME.*` of the configuration; None for none.
        ranges: of the numbers in there, by field.
        evaluated: the fields that evaluation reads, which `switchnorm eval RUN` may change.
        check: from a configuration of this task to what is wrong with it, a line each.
        claims: what others may report.
        computed: dotted keys that do not change what is trained, so that a claim stays beside the result. On those of
            the task's own section no result depends.
        flags: of commands, see `Flag`.
        views: which views of a picture evaluation can average, see `switchnorm.data.Views`.
        views_hint: what to use in place of others.
        evaluation_batch: pictures of a batch where weights are evaluated without a recipe.
        remark: a sentence on the scores, for the report; "" for none.
        parts: parts of a network whose layers the report shows apart: its title by how layers' names begin, in whole
            words; the longest beginning decides.
        records: what writes files of the task's own into the run folder, besides the tables that all runs have: from a
            `RunFolder`, the configuration and the dataset to Lightning callbacks; the function, or
            "package.module:function". None for nothing.
        sections: of the report: from the groups of runs of this task to sections of the page, as HTML; the function, or
            "package.module:function". None for none.
        pipeline: what the Hugging Face Hub calls the task, "image-classification"; "" where it has no name for it.
        adapter: what names the outputs of a network in files, and for `answering`, see
            `switchnorm.deploy.adapters.Adapter`; the class, or "package.module:Class". None leaves them as they are: a
            tensor is "output", and those of a dict have its keys.
        answering: what makes answers of a network's outputs, for `switchnorm.load` and `switchnorm predict`, see
            `switchnorm.deploy.answering.base.Answering`; the class, or "package.module:Class". None where the task
            predicts nothing.
        drawing: how `switchnorm check` draws samples, see `switchnorm.tasks.drawing.Drawing`; the class, or
            "package.module:Class". None draws the picture alone.
    """

    name: str
    task: Any
    metrics: tuple[Metric, ...]
    score_title: str
    example: str
    dataset: str = ""
    targets: str = "labels"
    section: type | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    evaluated: tuple[str, ...] = ()
    check: Callable[[Config], Iterable[str]] = lambda config: ()
    claims: tuple[Claim, ...] = ()
    computed: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    views: tuple[str, ...] = ("centre",)
    views_hint: str = ""
    evaluation_batch: int = 8
    remark: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    records: Any = None
    sections: Any = None
    pipeline: str = ""
    adapter: Any = None
    answering: Any = None
    drawing: Any = None

    @property
    def score(self) -> Metric:
        """The metric by which a run is judged: the best checkpoint has the highest."""
        return self.metrics[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of metrics.csv."""
        return (
            *("epoch", "step", "train_loss", "train_accuracy", "val_loss"),
            *(metric.column for metric in self.metrics),
            *("learning_rate", "radius", "images_per_second"),
        )

    @property
    def titles(self) -> dict[str, str]:
        """What the columns of validation are called where a result is printed."""
        return {"val_loss": "loss", **{metric.column: metric.title for metric in self.metrics}}


_TASKS: dict[str, TaskSpec] = {}
#: Names that a configuration or the command line has for something else.
_TAKEN = ("base", "claim", "config", "data", "help", "plugins", "seed", "task", "tasks")


def register(spec: TaskSpec) -> TaskSpec:
    """Make a task known to datasets, commands and reports.

    Raises:
        InputError: the name is taken by another task, is no lower-case word or that of another section of the
            configuration; no metrics; claims that another task has for something else.
    """
    from switchnorm.config.schema import SECTIONS

    if not isinstance(spec, TaskSpec):
        raise InputError(f"register takes a TaskSpec, got {type(spec).__name__}")
    name = spec.name
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower() or name in (*SECTIONS, *_TAKEN):
        raise InputError(f"task {name!r} cannot be called so; expected a word in lower case such as 'detection'")
    if spec.name in _TASKS and _TASKS[spec.name] != spec:
        raise InputError(f"task {spec.name!r} is registered already; choose another name")
    if not spec.metrics or not isinstance(spec.metrics, tuple):
        raise InputError(f"task {spec.name!r} measures nothing; give a tuple of `Metric`, the score of its runs first")
    if spec.section is not None and not (isinstance(spec.section, type) and is_dataclass(spec.section)):
        raise InputError(f"section of task {spec.name!r} must be a dataclass, got {spec.section!r}")
    known = [one.name for one in fields(spec.section)] if spec.section is not None else []
    for key in (*spec.ranges, *spec.evaluated):
        if key not in known:
            raise unknown(f"key of task {spec.name!r}", key, known)
    for flag in spec.flags:
        if not flag.name.startswith("--"):
            raise InputError(f"flag {flag.name!r} of task {spec.name!r} must begin with '--'")
    keys = [claim.key for claim in spec.claims]
    for claim in spec.claims:
        if claim.key in ("source", "status") or keys.count(claim.key) > 1:
            raise InputError(f"claim {claim.key!r} of task {spec.name!r} is there already; choose another key")
        others = [one for task in _TASKS.values() if task.name != spec.name for one in task.claims]
        if any(one.key == claim.key for one in others):
            raise InputError(f"claim {claim.key!r} of task {spec.name!r} is another task's; choose another key")
    _TASKS[spec.name] = spec
    return spec


def own_tasks() -> list[str]:
    """The names of the tasks that come with this library."""
    return [spec.name for spec in importlib.import_module(_BUILT_IN).OWN]


def tasks() -> dict[str, TaskSpec]:
    """Every task by name, those of this library first."""
    importlib.import_module(_BUILT_IN)
    return dict(_TASKS)


def find_task(name: str) -> TaskSpec:
    """The task of that name; raise `InputError` with the nearest otherwise."""
    known = tasks()
    if name not in known:
        raise unknown("task", name, known)
    return known[name]


def loaded(found: Any) -> Any:
    """The object that a field of a `TaskSpec` names: imported from "package.module:name", or the value itself."""
    if not isinstance(found, str):
        return found
    module, _, name = found.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{found!r} names nothing that can be imported ({error}); expected 'package.module:name'"
        ) from error
