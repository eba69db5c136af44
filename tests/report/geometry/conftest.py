"""A study of three geometries, with every score known."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchnorm.report.common.groups import group_runs
from switchnorm.report.geometry.grid import Grid, grids
from switchnorm.runs.geometries import Absent, Geometry
from switchnorm.runs.run import load_run
from tests.report.conftest import Make

FULL, PAIR, ONE = Geometry(8, 32), Geometry(8, 2), Geometry(1, 16)
# Accuracies of seeds 0 and 1, by norm and geometry.
ACCURACY = {
    ("ssn", FULL): (0.760, 0.764), ("ssn", PAIR): (0.702, 0.704),
    ("bn", FULL): (0.770, 0.774), ("bn", PAIR): (0.500, 0.540), ("bn", ONE): (0.765, 0.767),
    ("gn", FULL): (0.740, 0.750), ("gn", PAIR): (0.730, 0.732),
}  # fmt: skip


def at(geometry: Geometry, **others: object) -> dict[str, object]:
    return {"train.batch_size": geometry.batch, "train.samples_per_gpu": geometry.samples, **others}


def build(*paths: Path, absent: tuple[Absent, ...] = ()) -> Grid:
    (found,) = grids(group_runs([load_run(path) for path in paths]), absent)
    return found


@pytest.fixture
def paths(make_run: Make) -> list[Path]:
    return [
        make_run(norm, seed, final=accuracy, folder=f"{norm}-{geometry}-{seed}", settings=at(geometry))
        for (norm, geometry), accuracies in ACCURACY.items()
        for seed, accuracy in enumerate(accuracies)
    ]
