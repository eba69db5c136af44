"""The papers' table: accuracy of each normalizer at each (GPUs, samples per GPU), on one device.

Ghost batches stand in for the GPUs: a batch of GPUs x samples, whose batch statistics are those of groups of `samples`.
The learning rate follows the batch linearly (Goyal et al., 2017), from the recipe's `optimizer.lr_per`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, RenderableType

from switchnorm.config.recipe import SHORT, read_config
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.layers import has_batch_statistics
from switchnorm.models import parse_norm
from switchnorm.processes import world_size
from switchnorm.recipes import find_recipe
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.geometries import Absent, Geometry
from switchnorm.studies.folder import Plan, check_folder, locked
from switchnorm.studies.parallel import Outcome, default_workers, train_all
from switchnorm.studies.progress import StudyProgress, cost
from switchnorm.training.build import prepare

NORMS = ("bn", "gn", "sn", "ssn", "gn+ws")
#: What SN and SSN mix at one sample per GPU, as published: there are no batch statistics. BN has no cell there.
SINGLE = ("instance", "layer")

#: What the study sets for each run, and the flag that does.
_SETS = {
    "model.norm": "--norms",
    "model.conv": "--norms, such as gn+ws",
    "train.batch_size": "--geometries",
    "train.samples_per_gpu": "--geometries",
    "train.sync": "--geometries",
    "train.device": "--device",
    "seed": "--seeds",
}
_VARIED = ("model.norm", "model.options", "train.batch_size", "train.samples_per_gpu", "seed")


@dataclass(frozen=True)
class Preset:
    """What is trained on a kind of device unless flags say otherwise."""

    recipe: str
    norms: tuple[str, ...]
    geometries: tuple[Geometry, ...]
    seeds: tuple[int, ...]


PRESETS = {
    "cuda": Preset("cifar10/geometry", NORMS, tuple(Geometry(8, n) for n in (32, 16, 8, 4, 2)), (0,)),
    "cpu": Preset("cifar10/geometry_cpu", NORMS, tuple(Geometry(8, n) for n in (32, 8, 2)), (0,)),
}


@dataclass
class GeometryStudy:
    """A table that is to be made.

    Args:
        out: the folder of runs, table and report.
        recipe: name or file of the recipe that all runs share.
        plan: run folders and configurations, the longest trainings first.
        rows: norm, geometry and seed of each run folder, in the order of the table.
        device: where the runs train.
        workers: how many side by side.
    """

    out: Path
    recipe: str
    plan: Plan
    rows: dict[Path, tuple[str, Geometry, int]]
    device: str
    workers: int
    errors: dict[Path, str] = field(default_factory=dict)

    @property
    def finished(self) -> list[Path]:
        """The runs that came to their end, in the order of the table."""
        return [path for path in self.rows if (path / "run.json").is_file() and RunFolder.open(path).finished()]

    @property
    def absent(self) -> list[Absent]:
        """The runs that have not, with the reason for those that failed."""
        finished = set(self.finished)
        return [
            Absent(*self.rows[path], self.errors.get(path, ""), _statistics(config))
            for path, config in sorted(self.plan, key=lambda item: list(self.rows).index(item[0]))
            if path not in finished
        ]

    def facts(self, command: Sequence[str], seconds: float) -> dict[str, Any]:
        """Where the numbers come from, besides what each run's record says."""
        return {
            "study": "geometry",
            "recipe": self.recipe,
            "command": " ".join(command),
            "seeds": sorted({seed for _, _, seed in self.rows.values()}),
            "device": self.device,
            "side_by_side": self.workers,
            "seconds": round(seconds, 1),
        }

    def run(
        self,
        command: Sequence[str],
        keep: Callable[[dict[str, Any]], RenderableType | None],
        console: Console | None = None,
    ) -> None:
        """Train what is not trained yet.

        Args:
            command: how the study was started.
            keep: called with `facts` as each training ends; returns what the terminal shows above the progress.
            console: where progress goes.

        Raises:
            InputError: a folder of another configuration, or one that another study is at work in; a normalizer,
                network, dataset or device that no run could take.
        """
        check_folder(self.plan, _VARIED)
        self._rehearse()
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(self.out):
            began, before = time.monotonic(), _earlier_seconds(self.out / "table.json")

            def ended(path: Path, outcome: Outcome) -> RenderableType | None:
                if outcome.error:
                    self.errors[path] = outcome.error
                return keep(self.facts(command, before + time.monotonic() - began))

            def title(path: Path, config: Config) -> str:
                norm, geometry, seed = self.rows[path]
                return f"{norm} {geometry} seed {seed}"

            with StudyProgress(self.plan, self.workers, title, ended, console) as progress:
                train_all(self.plan, command, progress, workers=self.workers, logs=self.out / "logs")

    def _rehearse(self) -> None:
        """Check each normalizer with network and data, at its largest group, so that mistakes show before training."""
        finished = set(self.finished)
        largest: dict[str, Config] = {}
        for path, config in self.plan:
            norm, geometry, _ = self.rows[path]
            known = largest.get(norm)
            if path not in finished and (known is None or geometry.samples > (known.train.samples_per_gpu or 0)):
                largest[norm] = config
        for config in largest.values():
            prepare(config)


def plan_study(
    out: Path,
    *,
    recipe: str | None = None,
    norms: Sequence[str] | None = None,
    geometries: Sequence[Geometry] | None = None,
    seeds: Sequence[int] | None = None,
    device: str = "auto",
    workers: int | None = None,
    flags: Sequence[str] = (),
) -> GeometryStudy:
    """What a study will train; nothing is written or trained yet.

    Args:
        out: the folder for everything.
        recipe: name of a shipped recipe, or a YAML file; None takes the device's preset, as below.
        norms: the rows.
        geometries: the columns.
        seeds: of each cell.
        device: "auto" is CUDA where it is there, else the CPU.
        workers: trainings side by side; None takes as many as the device has room for.
        flags: for the configuration of every run, as `switchnorm train` takes them.

    Raises:
        InputError: anything wrong with these; flags that the study sets itself.
    """
    if world_size() > 1:
        raise InputError("a study runs on one device, with ghost batches for the others; start it without torchrun")
    _check_flags(flags)
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    preset = PRESETS.get(kind, PRESETS["cpu"])
    name = recipe or preset.recipe
    shared = [*flags, "--device", kind]
    base = read_config(find_recipe(name), shared)
    if base.optimizer.lr_per is None:
        shared += ["--optimizer.lr_per", str(base.train.batch_size * base.train.iteration_size)]
    rows: dict[Path, tuple[str, Geometry, int]] = {}
    plan: list[tuple[Path, Config]] = []
    without = []
    for norm in norms or preset.norms:
        for geometry in geometries or preset.geometries:
            for seed in seeds or preset.seeds:
                path = out / "runs" / f"{norm.replace(':', '')}-{geometry}-seed{seed}"
                if geometry.samples == 1 and _needs_samples(norm):
                    without.append(norm)
                    continue
                if path in rows:
                    if rows[path][0] != norm:
                        raise InputError(
                            f"norms {rows[path][0]!r} and {norm!r} would share {path}; leave one of them out"
                        )
                    continue
                rows[path] = (norm, geometry, seed)
                plan.append((path, read_config(find_recipe(name), [*shared, *_cell_flags(norm, geometry, seed)])))
    if not plan:
        norm = without[0].upper()
        raise InputError(
            f"{norm} has no batch statistics of 1 sample per GPU, so nothing is left to train; add another norm"
        )
    plan.sort(key=lambda item: cost(item[1]), reverse=True)
    return GeometryStudy(out, name, plan, rows, kind, min(workers or default_workers(kind), len(plan)))


def _cell_flags(norm: str, geometry: Geometry, seed: int) -> list[str]:
    flags = [f"--norm={norm}", f"--batch-size={geometry.batch}", f"--samples-per-gpu={geometry.samples}"]
    if geometry.samples == 1 and parse_norm(norm).registration.mixes:
        flags.append(f"--model.options.statistics=[{', '.join(SINGLE)}]")
    return [*flags, f"--seed={seed}"]


def _needs_samples(norm: str) -> bool:
    """Whether a normalizer cannot train on 1 sample per GPU: some channels have only batch statistics."""
    spec = parse_norm(norm)
    by_batch = has_batch_statistics(spec.layer(32))
    return by_batch and spec.registration.ghost and not spec.registration.mixes


def _check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        key = flag.removeprefix("--").partition("=")[0].replace("-", "_")
        key = SHORT.get(key, key)
        if flag.startswith("--") and key in _SETS:
            raise InputError(f"the study sets {key} for each run by itself; use {_SETS[key]} instead of {flag}")


def _statistics(config: Config) -> tuple[str, ...]:
    return tuple(config.model.options.get("statistics") or ())


def _earlier_seconds(table: Path) -> float:
    """What the study took before it was interrupted, by the table that it left."""
    try:
        return float(json.loads(table.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
