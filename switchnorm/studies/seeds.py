"""One configuration trained with several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from switchnorm.config.cluster import Cluster
from switchnorm.config.limits import check
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.processes import cores
from switchnorm.studies.study import Study


@dataclass(frozen=True)
class Spread:
    """A result over several seeds.

    Args:
        values: one for each seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Their sample standard deviation; None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """In percent: "95.12 ± 0.31 %"."""
        spread = "" if self.deviation is None else f" ± {100 * self.deviation:.2f}"
        return f"{100 * self.mean:.2f}{spread} %"


def train_seeds(
    config: Config,
    seeds: Sequence[int],
    out: Path,
    command: Sequence[str],
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> dict[str, Spread]:
    """Train a run per seed below `out`, in `seed0`, `seed1` and so on; what is there already is continued.

    Args:
        config: the configuration, but for its seed.
        seeds: the seeds.
        out: the folder of the run folders.
        command: how it was started, for the runs' records.
        workers: trainings side by side; by default one on a GPU, elsewhere one per core, and all in SLURM's queue.
        cluster: where they are trained; None is this machine.

    Returns:
        Each entry of the runs' results, in the order of the seeds.

    Raises:
        InputError: seeds that repeat, anything that keeps a run from starting, a folder with another configuration, or
            a training that failed.
    """
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must differ, got {' '.join(map(str, seeds))}")
    plan = [(out / f"seed{seed}", check(replace(config, seed=seed))) for seed in seeds]
    if workers is None and cluster is not None and cluster.engine == "slurm":
        workers = len(plan)
    elif workers is None:
        workers = 1 if config.train.device in ("auto", "cuda") and torch.cuda.is_available() else cores()
    names = dict.fromkeys((path for path, _ in plan), "")
    study = Study(out=out, plan=plan, names=names, workers=workers, varied=("seed",), cluster=cluster)
    outcomes = study.run(command)
    for path, error in study.errors.items():
        raise InputError(f"{str(path)!r} failed: {error}; the same command continues the others")
    results = [outcomes[path].result for path, _ in plan]
    return {name: Spread(tuple(result[name] for result in results)) for name in results[0]}
