"""`switchnorm study` and `switchnorm demo`: many runs as one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from switchnorm.cli import cluster
from switchnorm.cli.command import Commands
from switchnorm.config.limits import WORKERS, check_seeds
from switchnorm.config.norms import check_norm
from switchnorm.config.schema import Device
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.runs.geometries import Geometry
from switchnorm.studies import STUDIES, find_study
from switchnorm.studies.variants import read_variants
from switchnorm.text import say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from switchnorm.studies.study import Keep, Study

#: A recipe with the keys that a study without --recipe has, whatever its device.
_ANY_PRESET = "cifar10/geometry"

#: The flags that one study alone has.
_FLAGS = {"geometry": ("--norms", "--geometries"), "compare": ("--variants",)}


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
    study.usage = "switchnorm study NAME [--out DIR] [--recipe RECIPE] [--seeds SEED ...] [--KEY VALUE ...]"
    study.add_argument("--out", type=Path, metavar="DIR", help="where runs, table and report go (study-NAME)")
    study.add_argument("--recipe", metavar="RECIPE", help="what each run trains (geometry: one for the device)")
    study.add_argument("--norms", nargs="+", metavar="NORM", help="geometry: the rows (bn gn sn ssn gn+ws)")
    study.add_argument("--geometries", nargs="+", metavar="GxS", help="geometry: the columns, GPUs x samples per GPU")
    study.add_argument("--variants", nargs="+", metavar="VARIANT", help="compare: the rows")
    study.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="the trainings of each cell (0), row (0 1 2)"
    )
    study.add_argument("--workers", type=int, metavar="N", help="trainings side by side (as the device allows)")
    study.add_argument("--device", default="auto", choices=get_args(Device), help="where to train")
    cluster.add(study)


def _study_help() -> str:
    listed = "\n".join(f"  {name:10} {summary}" for name, summary in STUDIES.items())
    return f"""Train and compare many runs as one table.

  switchnorm study geometry --data.root DIR
  switchnorm study geometry --recipe digits/resnet9 --norms bn sn --geometries 8x32 8x2 1x16 --seeds 0 1 2
  switchnorm study geometry --data.root DIR --cluster slurm --partition gpu --time 8:00:00 --gpus 1
  switchnorm study compare --recipe digits/resnet9 --variants bn sn "Frozen BN: norm=bn train.frozen_statistics=true"

NAME is one of:
{listed}
A VARIANT is a norm; a name with the keys that it changes, "NAME: KEY=VALUE ..."; or a YAML file of several.
Any key of the configuration is a flag for all runs: --epochs 10, --data.root DIR, --optimizer.lr 0.05.
A study can be killed at any time; the same command continues it, and more rows, columns or seeds add to it.

{cluster.ABOUT}"""


def _demo(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from switchnorm.report import print_results, write
    from switchnorm.studies.demo import demo

    runs = demo(options.out)
    print_results(runs)
    say(f"report: {write(runs, options.out / 'report.html')}")


def _study(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    given = [options.out, options.recipe, options.seeds, options.workers]
    given += [getattr(options, flag[2:]) for flags in _FLAGS.values() for flag in flags]
    if not arguments and all(each is None for each in given):
        say(*(f"{name:10} {summary}" for name, summary in STUDIES.items()))
        say("Start one with `switchnorm study NAME`; `switchnorm study --help` says how.")
        return
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"study starts with a name, one of {', '.join(STUDIES)}; see `switchnorm study --help`")
    name = find_study(arguments[0])
    WORKERS.check("--workers", options.workers)
    check_seeds(options.seeds)
    for other, flags in _FLAGS.items():
        wrong = next((flag for flag in flags if other != name and getattr(options, flag[2:]) is not None), None)
        if wrong is not None:
            raise InputError(f"{wrong} is for study {other}, and this is {name}, which takes {', '.join(_FLAGS[name])}")
    if (found := cluster.given(options)) is not None:
        found.single()
    out = options.out or Path(f"study-{name}")
    (_geometry if name == "geometry" else _compare)(options, out, arguments[1:])


def _geometry(options: argparse.Namespace, out: Path, flags: Sequence[str]) -> None:
    from switchnorm.config.recipe import read_config

    geometries = [Geometry.parse(text) for text in options.geometries] if options.geometries else None
    # Whatever is wrong with the flags shows now; only then is it worth waiting for torch.
    model = read_config(find_recipe(options.recipe or _ANY_PRESET), flags).model
    check_norm(model.norm, model.norms)
    for norm in options.norms or ():
        check_norm(norm)

    from switchnorm.report import live_grid, print_grids, write, write_grids
    from switchnorm.studies.geometry import plan_study

    study = plan_study(
        out,
        recipe=options.recipe,
        norms=options.norms,
        geometries=geometries,
        seeds=options.seeds,
        device=options.device,
        workers=options.workers,
        cluster=cluster.given(options),
        flags=flags,
    )

    def keep(facts: dict[str, Any]) -> RenderableType:
        write_grids(study.counted, out, absent=study.absent, facts=facts)
        return live_grid(study.counted, study.absent)

    def report() -> Path | None:
        print_grids(study.counted, study.absent)
        return write(study.counted, out / "report.html", study.absent) if study.counted else None

    _run(study, keep, report)


def _compare(options: argparse.Namespace, out: Path, flags: Sequence[str]) -> None:
    from switchnorm.config.recipe import read_config

    variants = read_variants(options.variants or ())
    if options.recipe is None:
        raise InputError("study compare needs --recipe, a YAML file or a shipped one such as 'digits/resnet9'")
    model = read_config(find_recipe(options.recipe), flags).model
    check_norm(model.norm, model.norms)
    for variant in variants:
        if variant.label is None:
            check_norm(variant.name)

    from switchnorm.report import live_results, print_results, write, write_results
    from switchnorm.studies.compare import SEEDS, plan_comparison

    study = plan_comparison(
        out,
        variants,
        recipe=options.recipe,
        seeds=options.seeds or SEEDS,
        device=options.device,
        workers=options.workers,
        cluster=cluster.given(options),
        flags=flags,
    )

    def keep(facts: dict[str, Any]) -> RenderableType | None:
        if not study.counted:
            return None
        write_results(study.counted, out, notes=study.notes, facts=facts)
        return live_results(study.counted)

    def report() -> Path | None:
        if not study.counted:
            say(*study.notes)
            return None
        print_results(study.counted, notes=study.notes)
        return write(study.counted, out / "report.html", notes=study.notes)

    _run(study, keep, report)


def _run(study: Study, keep: Keep, report: Callable[[], Path | None]) -> None:
    """Train a study and show its table, also where it is interrupted; exit with 1 where a training failed."""
    try:
        study.run(("switchnorm", *sys.argv[1:]), keep)
    except KeyboardInterrupt:
        report()
        raise
    page = report()
    if page is not None:
        say(f"report: {page}")
    if study.errors:
        raise SystemExit(1)
