"""The demonstration: what small batches do to Batch Norm, and not to the others, on real digits in two minutes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.studies.parallel import train_all
from switchnorm.training.config import Config
from switchnorm.training.recipe import read_config

NORMS = ("bn", "gn+ws", "sn", "ssn")
SEEDS = (0, 1, 2)
SAMPLES_PER_GPU = 2


def plan(out: Path) -> list[tuple[Path, Config]]:
    """The runs of the demonstration: every norm with every seed, all else equal."""
    recipe = find_recipe("digits/resnet9")
    runs = []
    for seed in SEEDS:
        for norm in NORMS:
            flags = ("--norm", norm, "--seed", str(seed), "--samples-per-gpu", str(SAMPLES_PER_GPU), "--device", "cpu")
            runs.append((out / "runs" / f"{norm}-seed{seed}", read_config(recipe, flags)))
    return runs


def demo(out: Path) -> list[Path]:
    """Train what is not trained yet below `out`; returns the run folders.

    Raises:
        InputError: `out` holds runs of another configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    runs = plan(out)
    for path, config in runs:
        _check_same(path, config)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console.print(f"{len(runs)} trainings on real digits, {SAMPLES_PER_GPU} samples per GPU (ghost batches):")
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=len(runs))

        def report(path: Path, result: dict[str, Any]) -> None:
            progress.advance(bar)
            progress.console.print(f"  {path.name:12} accuracy {100 * result['val_accuracy']:.1f} %")

        train_all(runs, ("switchnorm", *sys.argv[1:]), report)
    return [path for path, _ in runs]


def _check_same(path: Path, config: Config) -> None:
    if (path / "config.yaml").is_file() and read_config(path / "config.yaml") != config:
        raise InputError(f"{str(path)!r} holds a run of another configuration; choose another folder with --out")
