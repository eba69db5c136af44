"""Flags that only runs of one task have, as the tasks' registrations describe them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from switchnorm.config.task_spec import Flag, TaskSpec, find_task, tasks
from switchnorm.errors import InputError


def add_task_flags(command: argparse.ArgumentParser, name: str) -> None:
    """Add to the command of that name the flags of every task; one that several tasks share is added once."""
    known: dict[str, list[str]] = {}
    for task, flag in _flags(name):
        known.setdefault(flag.name, []).append(task.name)
    added: set[str] = set()
    for _, flag in _flags(name):
        if flag.name not in added:
            added.add(flag.name)
            owners = " and ".join(known[flag.name])
            words = f"of {owners}: {flag.help}".replace("%", "%%")
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
        InputError: a flag that only other tasks have, one whose key is given too, or a file to write in a folder that
            is not there.
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
        if flag.output and not value.absolute().parent.is_dir():
            raise InputError(f"{flag.name} {str(value)!r}: there is no folder {str(value.parent)!r}")
        if any(each.partition("=")[0] == f"--{flag.key}" for each in given):
            raise InputError(f"{flag.name} and --{flag.key} say the same; leave one of them out")
        if flag.key:
            keys.append(f"--{flag.key}={str(value).lower() if isinstance(value, bool) else value}")
    return keys


def outputs(options: argparse.Namespace, task: str) -> Iterator[tuple[Flag, object]]:
    """The flags of a task that name a file to write after evaluation, with the file."""
    for flag in find_task(task).flags:
        if flag.output and getattr(options, flag.attribute, None) is not None:
            yield flag, getattr(options, flag.attribute)


def _flags(command: str) -> Iterator[tuple[TaskSpec, Flag]]:
    for task in tasks().values():
        for flag in task.flags:
            if command in flag.commands:
                yield task, flag
