"""`switchnorm train`."""

from __future__ import annotations

import argparse
import itertools
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.cli import cluster
from switchnorm.cli.command import Commands
from switchnorm.config.elsewhere import unknown_flag
from switchnorm.config.limits import WORKERS, check_seeds
from switchnorm.config.norms import check_norm
from switchnorm.errors import InputError, unknown
from switchnorm.recipes import find_recipe, recipes
from switchnorm.text import say

if TYPE_CHECKING:
    from switchnorm.config.cluster import Cluster
    from switchnorm.config.schema import Config
    from switchnorm.runs.folder import RunFolder


def add(commands: Commands) -> None:
    """Add the command."""
    train = commands.add("train", _run, "train a network by a recipe", _help())
    train.usage = (
        "switchnorm train RECIPE [--out DIR] [--seeds N ...] [--dry-run] [--KEY VALUE ...] "
        "| --resume RUN [--checkpoint C]"
    )
    train.add_argument("--out", type=Path, metavar="DIR", help="the run folder (runs/RECIPE-NORM)")
    train.add_argument("--resume", type=Path, metavar="RUN", help="continue this run where it stopped")
    train.add_argument(
        "--checkpoint",
        metavar="C",
        help="with --resume: where to continue, the last (default) or the one before, which takes its place",
    )
    train.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="N",
        help="a run for each seed, OUT/seedN; those that are there are continued; prints mean and spread",
    )
    train.add_argument(
        "--workers", type=int, metavar="N", help="trainings side by side (1 on a GPU, else one per core)"
    )
    train.add_argument(
        "--data-changed",
        action="store_true",
        help="with --resume: go on though the data, or a key that decides the number of steps, has changed",
    )
    train.add_argument("--dry-run", action="store_true", help="take one small step and write nothing")
    cluster.add(train)


def _help() -> str:
    return f"""Train a network by a recipe; flags win over the recipe.

  switchnorm train cifar10/resnet20 --norm ssn --samples-per-gpu 2 --data.root DIR
  switchnorm train --resume runs/cifar10-resnet20-ssn
  switchnorm train --resume runs/mine --data.root MOVED
  switchnorm train imagenet/resnetv1sn50_8x4 --data.root DIR --cluster slurm --nodes 2 --gpus 4 --time 8:00:00

RECIPE is a YAML file or one of:
{_listed()}

Any key of the configuration is a flag: --train.epochs 2, --optimizer.lr 0.05, --schedule.name step. Short forms:
--norm --model --conv --data --samples-per-gpu --batch-size --epochs --lr --precision --device.
A run's config.yaml shows every key.

{cluster.ABOUT}"""


def _listed() -> str:
    """The recipes that are shipped, a paragraph for each of their folders."""
    lines = []
    for folder, names in itertools.groupby(recipes(), key=lambda name: name.partition("/")[0]):
        text = f"{folder}/: {' '.join(name.partition('/')[2] for name in names)}"
        whole = textwrap.wrap(text, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        lines += [f"  {line}" for line in whole]
    return "\n".join(lines)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    if options.resume is not None:
        _resume(options, arguments)
        return
    if not arguments or arguments[0].startswith("-"):
        raise InputError("train starts with a recipe, or continues with --resume RUN; see `switchnorm train --help`")
    _check_together(options, arguments)
    where = cluster.given(options)
    from switchnorm.config.recipe import read_config

    recipe = find_recipe(arguments[0])
    config = read_config(recipe, arguments[1:])
    check_norm(config.model.norm, config.model.norms)
    name = arguments[0].replace("/", "-") if arguments[0] in recipes() else recipe.stem
    norm = config.model.norm
    words = [name, *([] if norm is None else [norm]), *itertools.chain(*config.model.norms.items())]
    folder = Path("runs", "-".join(word.replace(":", "") for word in words))
    command = ("switchnorm", *sys.argv[1:])

    # What follows imports torch, which takes seconds: wrong flags have been reported by now.
    if options.dry_run:
        from switchnorm.training import dry_run

        say(str(dry_run(config)))
    elif options.seeds is not None:
        _train_seeds(options, config, folder, command, None if where is None else where.single())
    elif where is not None:
        from switchnorm.studies.single import train_single

        _print_outcome(*train_single(config, options.out or folder, command, where))
    else:
        from switchnorm.training.launch import start

        _print_outcome(*start(config, options.out, default=folder, command=command))


def _check_together(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Options of `train` that exclude each other."""
    if options.checkpoint is not None:
        raise unknown_flag("flag", "--checkpoint", ())
    if options.data_changed:
        raise InputError("--data-changed is for a run that is continued; give --resume RUN, or leave it out")
    if options.workers is not None and options.seeds is None:
        raise InputError(
            "--workers is for several trainings; give --seeds, or --data.workers for those that read pictures"
        )
    WORKERS.check("--workers", options.workers)
    check_seeds(options.seeds)
    if options.dry_run and (options.out is not None or options.seeds is not None):
        raise InputError("--dry-run writes nothing and takes one seed; leave out --out and --seeds")
    if options.dry_run and options.cluster is not None:
        raise InputError("--dry-run takes its step here; leave out --cluster")
    if options.seeds is not None and any(flag.partition("=")[0] == "--seed" for flag in arguments):
        raise InputError("--seeds and --seed exclude each other; leave out --seed")


def _resume(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    others = {
        "--out": options.out,
        "--seeds": options.seeds,
        "--workers": options.workers,
        "--dry-run": options.dry_run,
    }
    given = [flag for flag, value in others.items() if value not in (None, False)]
    # Plugins are imported already; the run's configuration names those that it needs.
    flags = _place_flags(options.resume, [flag for flag in arguments if not flag.startswith("--plugins=")])
    if given:
        raise InputError(f"--resume continues a run as it was configured; leave out {given[0]}")
    checkpoint = options.checkpoint or "last"
    if checkpoint not in ("last", "previous"):
        raise unknown("checkpoint", checkpoint, ("last", "previous"))
    if (where := cluster.given(options)) is not None:
        _resume_on(where, options, flags)
        return
    from switchnorm.training.launch import resume

    _print_outcome(*resume(options.resume, flags, checkpoint=checkpoint, data_changed=options.data_changed))


def _resume_on(where: Cluster, options: argparse.Namespace, flags: Sequence[str]) -> None:
    """Continue a run in a job, as it is: what changes it is said where it can be answered."""
    changes = [flag for flag in ("--checkpoint", "--data-changed") if getattr(options, flag[2:].replace("-", "_"))]
    if given := [*changes, *flags]:
        raise InputError(f"--cluster continues a run as it is; leave out {given[0]}, or continue it here once with it")
    from switchnorm.runs.folder import RunFolder
    from switchnorm.studies.single import train_single

    run = RunFolder.open(options.resume)
    _print_outcome(*train_single(run.config(), run.path, ("switchnorm", *sys.argv[1:]), where))


def _place_flags(run: Path, arguments: Sequence[str]) -> list[str]:
    """The flags that say where a run's data lies now; raise `InputError` for any other."""
    if not arguments:
        return []
    from switchnorm.cli.networks import split
    from switchnorm.data import dataset_class
    from switchnorm.runs.folder import RunFolder

    positional, flags = split(arguments)
    places = [f"--data.{name}" for name in dataset_class(RunFolder.open(run).config().data["name"]).places]
    for argument in (*positional, *(flag.partition("=")[0] for flag in flags if flag.startswith("--"))):
        if f"--{argument[2:].replace('-', '_')}" not in places:
            raise InputError(
                f"--resume continues a run as it was configured; leave out {argument} (where the data lies now may be "
                f"said by {', '.join(places)})"
            )
    return flags


def _print_outcome(run: RunFolder, result: dict[str, Any]) -> None:
    from switchnorm.processes import is_first
    from switchnorm.training.words import outcome

    if is_first():
        say(*outcome(run, result))


def _train_seeds(
    options: argparse.Namespace, config: Config, folder: Path, command: Sequence[str], where: Cluster | None
) -> None:
    from switchnorm.config.claim import about, beside
    from switchnorm.config.task_spec import find_task
    from switchnorm.runs.folder import RunFolder
    from switchnorm.studies.seeds import train_seeds

    out = options.out or folder
    found = train_seeds(config, options.seeds, out, command, options.workers, where)
    spec = find_task(config.task)
    score = found[spec.score.column]
    several = "" if score.deviation is None else " (mean and sample standard deviation)"
    say(f"{out}: {spec.score_title} {score}, {len(score.values)} seeds{several}")
    pictures = RunFolder(out / f"seed{options.seeds[0]}").record().get("test_pictures")
    claim = beside(
        about(config.claim, config, pictures), config.task, {name: spread.mean for name, spread in found.items()}
    )
    if claim is not None:
        say(f"  {claim}")
