"""The papers' table: accuracy of each normalizer at each (GPUs, samples per GPU), on one device.

Ghost batches stand in for the GPUs: a batch of GPUs x samples, whose batch statistics are those of groups of `samples`.
The learning rate follows the batch linearly (Goyal et al., 2017), from the recipe's `optimizer.lr_per`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from switchnorm.config.cluster import Cluster
from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.layers import has_batch_statistics
from switchnorm.models import parse_norm
from switchnorm.recipes import find_recipe
from switchnorm.runs.geometries import Absent, Geometry
from switchnorm.studies.collected import CollectedStudy
from switchnorm.studies.progress import cost
from switchnorm.studies.study import check_flags, device_of, origin, side_by_side

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


@dataclass(kw_only=True)
class GeometryStudy(CollectedStudy):
    """The papers' table, to be made.

    Args:
        rows: norm and geometry of each run folder, in the order of the table.
    """

    rows: Mapping[Path, tuple[str, Geometry]]

    @property
    def absent(self) -> list[Absent]:
        """The runs that have no result, with the reason for those that failed."""
        return [
            Absent(*self.rows.get(path, _row(config)), config.seed, why, _statistics(config))
            for path, (config, why) in self.left_out.items()
        ]

    def kinds(self) -> dict[str, Config]:
        """Each normalizer at its largest group; the rate is left as it is written, for it follows each batch."""
        configs, finished = dict(self.plan), set(self.finished)
        largest: dict[str, Config] = {}
        for path, (norm, geometry) in self.rows.items():
            known = largest.get(norm)
            if path not in finished and (known is None or geometry.samples > (known.train.samples_per_gpu or 0)):
                largest[norm] = configs[path]
        return {
            norm: replace(config, optimizer=replace(config.optimizer, lr_per=None)) for norm, config in largest.items()
        }


def plan_study(
    out: Path,
    *,
    recipe: str | None = None,
    norms: Sequence[str] | None = None,
    geometries: Sequence[Geometry] | None = None,
    seeds: Sequence[int] | None = None,
    device: str = "auto",
    workers: int | None = None,
    cluster: Cluster | None = None,
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
        cluster: where they are trained; None is this machine.
        flags: for the configuration of every run, as `switchnorm train` takes them.

    Raises:
        InputError: anything wrong with these; flags that the study sets itself.
    """
    check_flags(flags, _SETS)
    kind = device_of(device, cluster)
    preset = PRESETS.get(kind, PRESETS["cpu"])
    name = recipe or preset.recipe
    shared = [*flags, "--device", kind]
    base = read_config(find_recipe(name), shared)
    if base.optimizer.lr_per is None:
        shared += ["--optimizer.lr_per", str(base.train.batch_size * base.train.iteration_size)]
    rows: dict[Path, tuple[str, Geometry]] = {}
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
                rows[path] = (norm, geometry)
                plan.append((path, read_config(find_recipe(name), [*shared, *_cell_flags(norm, geometry, seed)])))
    if not plan:
        norm = without[0].upper()
        raise InputError(
            f"{norm} has no batch statistics of 1 sample per GPU, so nothing is left to train; add another norm"
        )
    plan.sort(key=lambda item: cost(item[1]), reverse=True)
    return GeometryStudy(
        out=out,
        plan=plan,
        names={path: f"{norm} {geometry}" for path, (norm, geometry) in rows.items()},
        rows=rows,
        workers=side_by_side(workers, kind, plan, cluster),
        cluster=cluster,
        varied=_VARIED,
        origin=origin("geometry", name, kind),
    )


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


def _row(config: Config) -> tuple[str, Geometry]:
    """Norm and geometry of a run."""
    samples = config.train.samples_per_gpu or config.train.batch_size
    return str(config.model.norm), Geometry(config.train.batch_size // samples, samples)


def _statistics(config: Config) -> tuple[str, ...]:
    return tuple(config.model.options.get("statistics") or ())
