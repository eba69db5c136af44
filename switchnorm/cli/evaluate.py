"""`switchnorm eval`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.cli.command import Commands
from switchnorm.cli.flags import add_task_flags, config_flags, outputs, task_flag_names
from switchnorm.config.schema import SECTIONS
from switchnorm.config.task_spec import find_task
from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:
    from switchnorm.training.evaluate import Evaluation

_VIEWS = "views of each picture to average: centre (default), flip (and its mirror), ten (crops)"

#: Flags with RUN, besides those of its task; all other keys are as the run was configured.
_FLAGS = (
    *("--checkpoint", "--views", "--weights", "--plugins"),
    *("--device", "--precision", "--batch-size", "--segmentation.overlap", "--data.root"),
)


def add(commands: Commands) -> None:
    """Add the command."""
    evaluate = commands.add("eval", _run, "evaluate a run, or any weights, on a test set", _help())
    evaluate.usage = "switchnorm eval RUN [--checkpoint C] [--views V] | --weights FILE --model NAME --data NAME ..."
    evaluate.add_argument("--checkpoint", metavar="C", help="of RUN: last (default), best, or a file")
    evaluate.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="weights of any origin, published layouts included; an encoder's and a decoder's file are two",
    )
    evaluate.add_argument("--views", choices=("centre", "flip", "ten"), default="centre", help=_VIEWS)
    add_task_flags(evaluate, "eval")


def _help() -> str:
    return """Evaluate a run, or any weights, on a test set.

  switchnorm eval runs/cifar10-resnet20-ssn --checkpoint best
  switchnorm eval --weights FILE --model resnetv1sn50 --data imagenet --data.root DIR --views ten
  switchnorm eval runs/ade20k-resnet50_dilated8_c1_sn --scales 300 400 500 600 --flip

RUN evaluates the averaged weights where train.ema made some, and understands the flags --device, --precision,
--batch-size, the keys of its task's section (--segmentation.overlap) and --data.KEY. With --weights, the flags --model,
--norm, --conv, --model.options.KEY, --data and --data.KEY say what they belong to."""


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    if options.weights is not None:
        _eval_weights(options, arguments)
        return
    if not arguments or arguments[0].startswith("-"):
        raise InputError("eval takes a run folder, or --weights FILE; see `switchnorm eval --help`")
    _eval_run(Path(arguments[0]), arguments[1:], options)


def _eval_weights(options: argparse.Namespace, flags: Sequence[str]) -> None:
    from switchnorm.config.recipe import evaluation_config

    if options.checkpoint is not None:
        raise InputError("--checkpoint is one of RUN's, and --weights any file; leave one of them out")
    data = evaluation_config(flags)
    own = config_flags(options, "eval", data.task, repr(data.data["name"]), flags)
    config = evaluation_config([*own, *flags])
    # Imported this late because torch takes seconds: wrong flags have been reported by now.
    from switchnorm.training.evaluate import evaluate_weights

    _print(" and ".join(map(str, options.weights)), evaluate_weights(options.weights, config, options.views), options)


def _eval_run(folder: Path, flags: Sequence[str], options: argparse.Namespace) -> None:
    from switchnorm.config.recipe import read_config
    from switchnorm.runs.folder import RunFolder

    names = [flag.partition("=")[0] for flag in flags if flag.startswith("-")]
    for name in names:
        if name not in _FLAGS and ("." not in name or name[2:].partition(".")[0] in (*SECTIONS, "claim")):
            raise unknown("argument", name, (*_FLAGS, *task_flag_names("eval")))
    run = RunFolder.open(folder)
    spec = find_task(run.config().task)
    for name in names:
        section, _, key = name[2:].partition(".")
        if section == spec.name and key not in spec.evaluated:
            raise InputError(f"{name} changes nothing of an evaluation; leave it out")
    own = config_flags(options, "eval", spec.name, repr(str(folder)), flags)
    # Evaluation records no graph, and so does not need the device that training recorded one on.
    config = read_config(run.config_file, ["--train.cuda_graph=false", *own, *flags])
    from switchnorm.training.launch import checkpoint_of

    checkpoint = checkpoint_of(run, options.checkpoint or "last")
    from switchnorm.training.evaluate import evaluate

    _print(str(checkpoint), evaluate(run, checkpoint, options.views, config), options)


def _print(what: str, found: Evaluation, options: argparse.Namespace) -> None:
    from switchnorm.config.task_spec import loaded
    from switchnorm.processes import is_first
    from switchnorm.training.words import evaluation

    if not is_first():
        return
    print(*evaluation(what, found), sep="\n")
    for flag, path in outputs(options, found.dataset.task):
        print(f"\n{loaded(flag.output)(path, found)}")
