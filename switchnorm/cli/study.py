"""`switchnorm study` and `switchnorm demo`: many runs as one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.cli.command import Commands
from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.runs.geometries import Geometry
from switchnorm.studies import STUDIES, find_study

if TYPE_CHECKING:
    from rich.console import RenderableType


#: A recipe with the keys that a study without --recipe has, whatever its device.
_ANY_PRESET = "cifar10/geometry"


def add_demo(commands: Commands) -> None:
    """Add the command `demo`."""
    demo = commands.add(
        "demo",
        _demo,
        "compare BN, GN + WS, SN and SSN on real digits at 2 samples per GPU (two minutes)",
        flags=("--out",),
    )
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where runs and report go (demo)")


def add(commands: Commands) -> None:
    """Add the command `study`."""
    study = commands.add("study", _study, "train and compare many runs as one table", _study_help())
    study.usage = "switchnorm study NAME [--out DIR] [--recipe RECIPE] [--norms NORM ...] [--KEY VALUE ...]"
    study.add_argument("--out", type=Path, metavar="DIR", help="where runs, table and report go (study-NAME)")
    study.add_argument("--recipe", metavar="RECIPE", help="what each run trains (one for the device)")
    study.add_argument("--norms", nargs="+", metavar="NORM", help="the rows (bn gn sn ssn gn+ws)")
    study.add_argument("--geometries", nargs="+", metavar="GxS", help="the columns, GPUs x samples per GPU: 8x32 8x2")
    study.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="the trainings of each cell (0)")
    study.add_argument("--workers", type=int, metavar="N", help="trainings side by side (as the device allows)")
    study.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to train")


def _study_help() -> str:
    listed = "\n".join(f"  {name:10} {summary}" for name, summary in STUDIES.items())
    return f"""Train and compare many runs as one table.

  switchnorm study geometry --data.root DIR
  switchnorm study geometry --recipe digits/resnet9 --norms bn sn --geometries 8x32 8x2 1x16 --seeds 0 1 2

NAME is one of:
{listed}
Any key of the configuration is a flag for all runs: --epochs 10, --data.root DIR, --optimizer.lr 0.05.
A study can be killed at any time; the same command continues it, and more norms, geometries or seeds add to it."""


def _demo(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from switchnorm.report import print_results, write
    from switchnorm.studies.demo import demo

    runs = demo(options.out)
    print_results(runs)
    print(f"report: {write(runs, options.out / 'report.html')}")


def _study(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    given = (options.out, options.recipe, options.norms, options.geometries, options.seeds, options.workers)
    if not arguments and all(each is None for each in given):
        print(*(f"{name:10} {summary}" for name, summary in STUDIES.items()), sep="\n")
        print("Start one with `switchnorm study NAME`; `switchnorm study --help` says how.")
        return
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"study starts with a name, one of {', '.join(STUDIES)}; see `switchnorm study --help`")
    name = find_study(arguments[0])
    out = options.out or Path(f"study-{name}")
    geometries = [Geometry.parse(text) for text in options.geometries] if options.geometries else None
    # Whatever is wrong with the flags shows now; only then is it worth waiting for torch.
    read_config(find_recipe(options.recipe or _ANY_PRESET), arguments[1:])

    from switchnorm.report import live_grid, print_grids, write, write_tables
    from switchnorm.studies.geometry import plan_study

    study = plan_study(
        out,
        recipe=options.recipe,
        norms=options.norms,
        geometries=geometries,
        seeds=options.seeds,
        device=options.device,
        workers=options.workers,
        flags=arguments[1:],
    )

    def keep(facts: dict[str, Any]) -> RenderableType:
        write_tables(study.finished, out, absent=study.absent, facts=facts)
        return live_grid(study.finished, study.absent)

    try:
        study.run(("switchnorm", *sys.argv[1:]), keep)
    except KeyboardInterrupt:
        print_grids(study.finished, study.absent)
        raise
    print_grids(study.finished, study.absent)
    if study.finished:
        print(f"report: {write(study.finished, out / 'report.html', study.absent)}")
    if study.errors:
        raise SystemExit(1)
