"""The demonstration: what small batches do to Batch Norm, and not to the others, on real digits in two minutes."""

from __future__ import annotations

import sys
from pathlib import Path

from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.studies.parallel import default_workers
from switchnorm.studies.study import Study

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
        InputError: `out` holds runs of another configuration, or a training failed.
    """
    runs = plan(out)
    names = {path: str(config.model.norm) for path, config in runs}
    study = Study(
        out=out,
        plan=runs,
        names=names,
        workers=default_workers("cpu"),
        varied=("model.norm", "seed"),
        about=f"{len(runs)} trainings on real digits, {SAMPLES_PER_GPU} samples per GPU (ghost batches):",
    )
    study.run(("switchnorm", *sys.argv[1:]))
    for path, error in study.errors.items():
        raise InputError(f"{str(path)!r} failed: {error}")
    return [path for path, _ in runs]
