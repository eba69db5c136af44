"""The command `switchnorm`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from switchnorm import __version__
from switchnorm.errors import InputError, unknown
from switchnorm.recipes import find_recipe, recipes

# Each command imports what it needs when it runs, so that --help and mistakes are answered at once.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with exit code 2 and one line on bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options, flags = _parser().parse_known_args(arguments)
        if flags and options.run is not _train:
            raise unknown("argument", flags[0], _flags_of(options.command))
        if options.run is _train:
            _train(options, flags)
        else:
            options.run(options)
    except InputError as error:
        print(f"switchnorm: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        print(f"switchnorm: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("switchnorm: interrupted; continue a run with `switchnorm train --resume RUN`", file=sys.stderr)
        raise SystemExit(130) from None


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="switchnorm",
        description="Train networks with any normalization at any batch geometry, and see what every layer chose.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"switchnorm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    def add(name: str, run: Callable[..., None], summary: str, description: str = "") -> argparse.ArgumentParser:
        text = description or summary
        command = commands.add_parser(
            name,
            help=summary,
            description=text,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    demo = add("demo", _demo, "compare BN, GN + WS, SN and SSN on real digits at 2 samples per GPU (two minutes)")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where runs and report go (demo)")

    train = add("train", _train, "train a network by a recipe", _train_help())
    train.usage = "switchnorm train RECIPE [--out DIR] [--KEY VALUE ...] | --resume RUN"
    train.add_argument("--out", type=Path, metavar="DIR", help="the run folder (runs/RECIPE-NORM)")
    train.add_argument("--resume", type=Path, metavar="RUN", help="continue this run where it stopped")

    evaluate = add("eval", _eval, "evaluate a run on its test set")
    evaluate.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    evaluate.add_argument("--checkpoint", default="last", metavar="C", help="last (default), best, or a file")

    inspect = add("inspect", _inspect, "print what every layer chose: the importance of each statistic")
    inspect.add_argument("path", type=Path, metavar="RUN_OR_CHECKPOINT", help="a run folder or a checkpoint file")

    report = add("report", _report, "write one self-contained HTML page about runs")
    report.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    report.add_argument("--out", type=Path, metavar="FILE", help="the page (report.html in the run's folder, or here)")
    return parser


def _train_help() -> str:
    return f"""Train a network by a recipe; flags win over the recipe.

  switchnorm train cifar10/resnet20 --norm ssn --samples-per-gpu 2 --data.root DIR
  switchnorm train --resume runs/cifar10-resnet20-ssn

RECIPE is a YAML file or one of: {", ".join(recipes())}.
Any key of the configuration is a flag: --train.epochs 2, --optimizer.lr 0.05, --schedule.name step. Short forms:
--norm --model --conv --data --samples-per-gpu --batch-size --epochs --lr --precision --device.
A run's config.yaml shows every key."""


def _flags_of(command: str) -> list[str]:
    return {
        "demo": ["--out"],
        "eval": ["--checkpoint"],
        "inspect": ["--help"],
        "report": ["--out"],
    }[command]


def _demo(options: argparse.Namespace) -> None:
    from switchnorm.report import print_results, write
    from switchnorm.studies.demo import demo

    runs = demo(options.out)
    print_results(runs)
    print(f"report: {write(runs, options.out / 'report.html')}")


def _train(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    if options.resume is not None and (arguments or options.out):
        raise InputError(f"--resume continues a run as it was configured; leave out {(*arguments, '--out')[0]}")
    if options.resume is None and (not arguments or arguments[0].startswith("-")):
        raise InputError("train starts with a recipe, or continues with --resume RUN; see `switchnorm train --help`")
    from switchnorm.training.recipe import read_config

    if options.resume is None:
        recipe = find_recipe(arguments[0])
        config = read_config(recipe, arguments[1:])
        shipped = arguments[0] in recipes()
        name = f"{arguments[0].replace('/', '-') if shipped else recipe.stem}-{config.model.norm.replace(':', '')}"

    # Only now is it worth waiting for torch.
    from switchnorm.training.launch import first_process, resume, start

    if options.resume is None:
        run, result = start(config, options.out, default=Path("runs", name), command=("switchnorm", *sys.argv[1:]))
    else:
        run, result = resume(options.resume)
    if first_process():
        print(f"{run.path}: validation accuracy {100 * result['val_accuracy']:.2f} %")


def _eval(options: argparse.Namespace) -> None:
    from switchnorm.training.launch import checkpoint_of, first_process
    from switchnorm.training.run_folder import RunFolder

    run = RunFolder.open(options.folder)
    checkpoint = checkpoint_of(run, options.checkpoint)
    from switchnorm.training.fit import evaluate

    metrics = evaluate(run, checkpoint)
    if first_process():
        print(f"{checkpoint} on the test set of {run.config().data['name']}")
        for name, value in metrics.items():
            label = name.removeprefix("val_").replace("_", " ")
            print(f"  {label:14} {100 * value:.2f} %" if "accuracy" in name else f"  {label:14} {value:.4f}")


def _inspect(options: argparse.Namespace) -> None:
    from switchnorm.report import print_importance
    from switchnorm.training.launch import inspect

    layers = inspect(options.path)
    if not layers:
        raise InputError(
            f"{str(options.path)!r} has no switchable layer; expected a run or checkpoint with norm sn or ssn"
        )
    print_importance(layers)


def _report(options: argparse.Namespace) -> None:
    from switchnorm.report import print_results, write

    out = options.out or (options.runs[0] / "report.html" if len(options.runs) == 1 else Path("report.html"))
    page = write(options.runs, out)
    print_results(options.runs)
    print(f"report: {page}")
