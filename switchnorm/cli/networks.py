"""Which network a command runs: that of a run, or any weights; and what that makes of the command's flags."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.cli.flags import config_flags, task_flag_names
from switchnorm.config.elsewhere import unknown_flag
from switchnorm.config.schema import SECTIONS
from switchnorm.config.task_spec import find_task
from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.config.schema import Config
    from switchnorm.runs.folder import RunFolder


def add_network_flags(command: argparse.ArgumentParser, default: str) -> None:
    """Add the flags that choose the weights.

    Args:
        command: what they are added to.
        default: the checkpoint of a run that is taken where none is named.
    """
    command.add_argument(
        "--checkpoint", metavar="C", help=f"of RUN: last, best, epoch:N (a snapshot) or a file ({default})"
    )
    command.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="weights of any origin, published layouts included; an encoder's and a decoder's file are two",
    )


def open_run(
    folder: Path, options: argparse.Namespace, flags: Sequence[str], able: Sequence[str]
) -> tuple[RunFolder, Config]:
    """A run, and its configuration as flags change it: where it computes, its data, and how its task evaluates.

    Args:
        folder: of the run.
        options: of the command.
        flags: those of the configuration.
        able: the flags that the command has, besides those of tasks.

    Raises:
        InputError: a flag that changes nothing here, or no run.
    """
    from switchnorm.config.recipe import read_config
    from switchnorm.runs.folder import RunFolder

    if options.checkpoint is not None and options.weights is not None:
        raise InputError("--checkpoint is one of RUN's, and --weights any file; leave one of them out")
    names = [flag.partition("=")[0] for flag in flags if flag.startswith("-")]
    for name in names:
        if name not in able and ("." not in name or name[2:].partition(".")[0] in (*SECTIONS, "claim")):
            raise unknown_flag("argument", name, (*able, *task_flag_names(options.command)))
    run = RunFolder.open(folder)
    spec = find_task(run.config().task)
    for name in names:
        section, _, key = name[2:].partition(".")
        if section == spec.name and key not in spec.evaluated:
            raise InputError(f"{name} changes nothing of an evaluation; leave it out")
    own = config_flags(options, options.command, spec.name, repr(str(folder)), flags)
    # The batch size of training stays: ghost batches and calibration go by it.
    flags = [re.sub("^--batch[-_]size(?==|$)", "--train.eval_batch_size", flag) for flag in flags]
    # Evaluation records no graph, and so does not need the device that training recorded one on.
    return run, read_config(run.config_file, ["--train.cuda_graph=false", *own, *flags])


def weights_config(options: argparse.Namespace, flags: Sequence[str]) -> Config:
    """The configuration that flags alone make: which network weights belong to, and which data they are run on.

    Raises:
        InputError: as `switchnorm.config.recipe.read_config`; a checkpoint of a run, or more files than two.
    """
    from switchnorm.config.recipe import evaluation_config

    if options.checkpoint is not None:
        raise InputError("--checkpoint is one of RUN's, and --weights any file; leave one of them out")
    if len(options.weights) > 2:
        third = str(options.weights[2])
        raise InputError(f"--weights takes a file, or an encoder's and a decoder's, got {third!r} as a third")
    data = evaluation_config(flags)
    own = config_flags(options, options.command, data.task, repr(data.data["name"]), flags)
    return evaluation_config([*own, *flags])


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is left of a command line as positional arguments, and flags of the configuration with their values."""
    positional, flags = [], []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--"):
            positional.append(argument)
            continue
        flags.append(argument)
        if "=" not in argument:
            flags += [value for value in (next(rest, None),) if value is not None]
    return positional, flags
