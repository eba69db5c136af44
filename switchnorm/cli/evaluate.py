"""`switchnorm eval`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.cli.command import Commands
from switchnorm.cli.flags import add_task_flags, outputs
from switchnorm.cli.networks import add_network_flags, open_run, weights_config
from switchnorm.config.ranges import Range
from switchnorm.config.statistics import parse_statistics
from switchnorm.errors import InputError
from switchnorm.text import say

if TYPE_CHECKING:
    from switchnorm.config.schema import Config
    from switchnorm.training.evaluate import Evaluation

_VIEWS = "views of each picture to average: centre (default), flip (and its mirror), ten (crops)"
_STATISTICS = "of layers that have some of the batch: running (default), batch, or calibrate:N (training batches)"

#: Flags with RUN, besides those of its task; all other keys are as the run was configured.
_FLAGS = (
    *("--checkpoint", "--views", "--statistics", "--limit", "--weights", "--plugins"),
    *("--device", "--precision", "--batch-size", "--segmentation.overlap", "--data.root"),
)


def add(commands: Commands) -> None:
    """Add the command."""
    evaluate = commands.add("eval", _run, "evaluate a run, or any weights, on a test set", _help())
    evaluate.usage = "switchnorm eval RUN [--checkpoint C] [--views V] | --weights FILE --model NAME --data NAME ..."
    add_network_flags(evaluate, "last")
    evaluate.add_argument("--views", choices=("centre", "flip", "ten"), default="centre", help=_VIEWS)
    evaluate.add_argument("--statistics", default="running", metavar="S", help=_STATISTICS)
    evaluate.add_argument("--limit", type=int, metavar="N", help="the first N test pictures alone")
    add_task_flags(evaluate, "eval")


def _help() -> str:
    return """Evaluate a run, or any weights, on a test set.

  switchnorm eval runs/cifar10-resnet20-ssn --checkpoint best
  switchnorm eval --weights FILE --model resnetv1sn50 --data imagenet --data.root DIR --views ten
  switchnorm eval runs/ade20k-resnet50_dilated8_c1_sn --scales 300 400 500 600 --flip --pictures shown --worst 20
  switchnorm eval runs/bccd-small-sn --detections found.json --pictures shown --worst 20

  switchnorm eval runs/cifar10-resnet20-sn --checkpoint epoch:12 --statistics calibrate:200

RUN evaluates the averaged weights where train.ema made some, and understands the flags --device, --precision,
--batch-size, the keys of its task's section (--segmentation.overlap) and --data.KEY. With --weights, the flags --model,
--norm, --conv, --model.options.KEY, --data and --data.KEY say what they belong to."""


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    Range(1).check("--limit", options.limit)
    parse_statistics(options.statistics)
    if options.weights is not None:
        config = weights_config(options, arguments)
        # Imported this late because torch takes seconds: wrong flags have been reported by now.
        from switchnorm.training.evaluate import evaluate_weights

        what = " and ".join(map(str, options.weights))
        _print(what, evaluate_weights(options.weights, config, **_how(options, config)))
        return
    if not arguments or arguments[0].startswith("-"):
        raise InputError("eval takes a run folder, or --weights FILE; see `switchnorm eval --help`")
    run, config = open_run(Path(arguments[0]), options, arguments[1:], _FLAGS)
    from switchnorm.runs.checkpoints import checkpoint_of

    checkpoint = checkpoint_of(run, options.checkpoint or "last")
    from switchnorm.training.evaluate import evaluate

    _print(str(checkpoint), evaluate(run, checkpoint, config=config, **_how(options, config)))


def _how(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    """How to evaluate, as arguments of `evaluate`."""
    how = {name: getattr(options, name) for name in ("views", "statistics", "limit")}
    return {**how, "quiet": False, "outputs": outputs(options, config.task)}


def _print(what: str, found: Evaluation) -> None:
    from switchnorm.processes import is_first
    from switchnorm.training.words import evaluation

    if not is_first():
        return
    say(*evaluation(what, found))
    for output in found.outputs:
        say(f"\n{output.write()}")
