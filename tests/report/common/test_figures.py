"""What the figures of metrics hold, before anything draws them."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchnorm.report.common.figures import curve, line_styles
from switchnorm.report.common.groups import group_runs
from switchnorm.runs.run import load_run
from tests.report.conftest import EPOCHS, Make


def test_a_curve_is_the_mean_over_seeds_in_a_band_of_all_seeds(runs: list[Path]) -> None:
    figure = curve(group_runs(map(load_run, runs)), "val_accuracy", scale=100)
    band, line = figure.data[:2]
    assert (line.name, len(figure.data)) == ("BN", 8)
    assert line.y[-1] == pytest.approx(70)
    assert (max(band.y[EPOCHS - 1 : EPOCHS + 1]), min(band.y[EPOCHS - 1 : EPOCHS + 1])) == pytest.approx((71, 69))
    assert list(band.x) == [*range(1, EPOCHS + 1), *range(EPOCHS, 0, -1)]


def test_one_seed_has_no_band(make_run: Make) -> None:
    assert len(curve(group_runs([load_run(make_run("sn"))]), "train_loss").data) == 1


def test_a_metric_that_nobody_measured_has_no_figure(make_run: Make) -> None:
    assert curve(group_runs([load_run(make_run("bn"))]), "radius") is None


def test_lines_differ_by_more_than_colour(make_run: Make) -> None:
    paths = [make_run(norm) for norm in ("bn", "sn", "gn+ws")]
    paths += [make_run("bn", folder=str(size), settings={"train.samples_per_gpu": size}) for size in (4, 8)]
    styles = line_styles(group_runs(map(load_run, paths)))
    assert len({style.symbol for style in styles}) == len(styles)
    assert len({(style.colour, style.dash) for style in styles}) == len(styles)
    assert len({style.colour for style in styles}) == 3
