"""Flags that only runs of one task have, as the tasks' registrations describe them."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.config.task_spec import Flag, TaskSpec, find_task, loaded, tasks
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.tasks.output import MakeOutput


def add_task_flags(command: argparse.ArgumentParser, name: str) -> None:
    """Add to the command of that name the flags of every task; one that several tasks share is added once."""
    known: dict[str, dict[str, list[str]]] = {}  # by the flag, by what it does, the tasks
    for task, flag in _flags(name):
        known.setdefault(flag.name, {}).setdefault(flag.help, []).append(task.name)
    added: set[str] = set()
    for _, flag in _flags(name):
        if flag.name not in added:
            added.add(flag.name)
            said = {does: " and ".join(tasks) for does, tasks in known[flag.name].items()}
            words = "; ".join(f"of {tasks}: {does}" for does, tasks in said.items()).replace("%", "%%")
            owners = " and ".join(said.values())
            try:
                command.add_argument(flag.name, dest=flag.attribute, help=words, **flag.options)
            except (argparse.ArgumentError, TypeError, ValueError) as error:
                raise InputError(f"flag {flag.name!r} of task {owners!r} cannot be added: {error}") from error


def task_flag_names(name: str) -> list[str]:
    """The names of all tasks' flags that the command of that name has."""
    return list(dict.fromkeys(flag.name for _, flag in _flags(name)))


def config_flags(options: argparse.Namespace, name: str, task: str, what: str, given: Sequence[str] = ()) -> list[str]:
    """The tasks' flags on a command line, as keys of the configuration: "--flip" is "--segmentation.flip=true".

    Args:
        options: of the command.
        name: the command.
        task: of the run or dataset.
        what: the run or dataset, as errors name it.
        given: the flags of the configuration that the command line has besides.

    Raises:
        InputError: a flag that only other tasks have, one whose key is given too, one without the flag that it
            changes, a number out of range, or a file that cannot be written.
    """
    own = {flag.name for flag in find_task(task).flags}
    keys = []
    for other, flag in _flags(name):
        value = getattr(options, flag.attribute, None)  # a plugin that the run names is imported after parsing
        if value is None or value is False:
            continue
        if flag.name not in own:
            raise InputError(f"{flag.name} is for {other.name}, and {what} is one of {task}; leave it out")
        if other.name != task:
            continue
        if flag.output:
            _check_output(flag, value)
        if flag.range is not None:
            flag.range.check(flag.name, value)
        if flag.changes and not _given(options, flag.changes):
            raise InputError(f"{flag.name} changes {flag.changes}; give that too, or leave it out")
        if any(each.partition("=")[0] == f"--{flag.key}" for each in given):
            raise InputError(f"{flag.name} and --{flag.key} say the same; leave one of them out")
        if flag.key:
            keys.append(f"--{flag.key}={str(value).lower() if isinstance(value, bool) else value}")
    return keys


def outputs(options: argparse.Namespace, task: str) -> list[MakeOutput]:
    """What the flags of a task ask to write about an evaluation; called with the dataset to make each."""
    flags = find_task(task).flags
    made: list[MakeOutput] = []
    for flag in flags:
        if flag.output and _given(options, flag.name):
            changes = {
                each.attribute: getattr(options, each.attribute, None) for each in flags if each.changes == flag.name
            }
            given = {name: value for name, value in changes.items() if value is not None}
            made.append(functools.partial(loaded(flag.output), getattr(options, flag.attribute), **given))
    return made


def _given(options: argparse.Namespace, name: str) -> bool:
    return getattr(options, Flag(name, "").attribute, None) is not None


def _check_output(flag: Flag, path: Path) -> None:
    """Raise `InputError` for a file or folder that cannot be written."""
    what = f"{flag.name} {str(path)!r}"
    if not path.absolute().parent.is_dir():
        raise InputError(f"{what}: there is no folder {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise InputError(f"{what} cannot be written; choose another place")
    if flag.suffix == "/":
        if path.exists() and not path.is_dir():
            raise InputError(f"{what} is a file; expected a folder")
    elif path.is_dir():
        raise InputError(f"{what} is a folder; expected a file")
    elif path.suffix != flag.suffix and flag.suffix:
        raise InputError(f"{what} must end with {flag.suffix}, as {str(path.with_suffix(flag.suffix))!r}")


def _flags(command: str) -> Iterator[tuple[TaskSpec, Flag]]:
    for task in tasks().values():
        for flag in task.flags:
            if command in flag.commands:
                yield task, flag
