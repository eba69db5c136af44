"""`switchnorm eval`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.cli.answers import add_answering, answering_flags
from switchnorm.cli.command import Commands
from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:
    from switchnorm.training.config import Config
    from switchnorm.training.evaluate import Evaluation

_VIEWS = "of classification: views of each picture to average: centre (default), flip (and its mirror), ten (crops)"

#: What only segmentation has.
_SEGMENTATION = ("--split", "--confusion", "--scales", "--flip", "--window")

#: What RUN understands; any other key is the run's own.
_FLAGS = (
    *("--checkpoint", "--views", "--weights", *_SEGMENTATION),
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
    evaluate.add_argument("--split", metavar="SPLIT", help="of segmentation: the pictures to evaluate, val or test")
    evaluate.add_argument(
        "--confusion",
        type=Path,
        metavar="FILE",
        help="of segmentation: write pixels by true and predicted class as CSV",
    )
    add_answering(evaluate)


def _help() -> str:
    return """Evaluate a run, or any weights, on a test set.

  switchnorm eval runs/cifar10-resnet20-ssn --checkpoint best
  switchnorm eval --weights FILE --model resnetv1sn50 --data imagenet --data.root DIR --views ten
  switchnorm eval runs/ade20k-resnet50_dilated8_c1_sn --scales 300 400 500 600 --flip

RUN evaluates the averaged weights where train.ema made some, and understands the flags --device, --precision,
--batch-size, --segmentation.overlap and --data.KEY. With --weights, the flags --model, --norm, --conv,
--model.options.KEY, --data and --data.KEY say what they belong to."""


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from switchnorm.training.recipe import evaluation_config

    own = answering_flags(options) + ([] if options.split is None else [f"--data.split={options.split}"])
    if options.weights is not None:
        if options.checkpoint is not None:
            raise InputError("--checkpoint is one of RUN's, and --weights any file; leave one of them out")
        data = evaluation_config(arguments)
        _check_task(options, data.task, repr(data.data["name"]))
        config = evaluation_config([*own, *arguments])
        from switchnorm.training.evaluate import evaluate_weights

        name = " and ".join(map(str, options.weights))
        _tell(name, config, evaluate_weights(options.weights, config, options.views), options.confusion)
        return
    if not arguments or arguments[0].startswith("-"):
        raise InputError("eval takes a run folder, or --weights FILE; see `switchnorm eval --help`")
    _eval_run(Path(arguments[0]), own, arguments[1:], options)


def _eval_run(folder: Path, own: Sequence[str], flags: Sequence[str], options: argparse.Namespace) -> None:
    for flag in flags:
        name = flag.partition("=")[0]
        if flag.startswith("-") and name not in _FLAGS and not name.startswith("--data."):
            raise unknown("argument", flag, _FLAGS)
    from switchnorm.training.launch import checkpoint_of
    from switchnorm.training.recipe import read_config
    from switchnorm.training.run_folder import RunFolder

    run = RunFolder.open(folder)
    _check_task(options, run.config().task, repr(str(folder)))
    # Evaluation records no graph, and so does not need the device that training recorded one on.
    config = read_config(run.config_file, ["--train.cuda_graph=false", *own, *flags])
    checkpoint = checkpoint_of(run, options.checkpoint or "last")
    from switchnorm.training.evaluate import evaluate

    _tell(str(checkpoint), config, evaluate(run, checkpoint, options.views, config), options.confusion)


def _check_task(options: argparse.Namespace, task: str, what: str) -> None:
    """Raise `InputError` for a flag that only segmentation has, and for a file that cannot be written."""
    asked = next((flag for flag in _SEGMENTATION if getattr(options, flag[2:]) not in (None, False)), None)
    if asked is not None and task != "segmentation":
        raise InputError(f"{asked} is for segmentation, and {what} is one of classification; leave it out")
    if options.confusion is not None and not options.confusion.absolute().parent.is_dir():
        raise InputError(
            f"--confusion {str(options.confusion)!r}: there is no folder {str(options.confusion.parent)!r}"
        )


def _tell(what: str, config: Config, found: Evaluation, confusion: Path | None) -> None:
    from switchnorm.training.launch import first_process
    from switchnorm.training.words import evaluation

    if not first_process():
        return
    print(*evaluation(what, config.data["name"], found), sep="\n")
    if confusion is not None and found.scores is not None:
        from switchnorm.training.examples import confusion_text
        from switchnorm.training.run_folder import write_atomically

        write_atomically(confusion, confusion_text(found.classes, found.scores))
        print(f"\n{confusion}: pixels by true and predicted class")
