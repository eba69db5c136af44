"""What the figures hold, before anything draws them."""

from __future__ import annotations

from pathlib import Path

import pytest
from switchnorm.report.figures import choice, curve, evolution, line_styles
from switchnorm.report.groups import group_runs

from switchnorm.report import load_run
from tests.report.conftest import EPOCHS, LAYERS, STATISTICS, Make


def test_a_curve_is_the_mean_over_seeds_in_a_band_of_all_seeds(runs: list[Path]) -> None:
    figure = curve(group_runs(map(load_run, runs)), "val_accuracy", scale=100)
    band, line = figure.data[:2]
    assert (line.name, len(figure.data)) == ("BN", 8)
    assert line.y[-1] == pytest.approx(70)
    assert (max(band.y[EPOCHS - 1 : EPOCHS + 1]), min(band.y[EPOCHS - 1 : EPOCHS + 1])) == pytest.approx((71, 69))
    assert list(band.x) == [*range(EPOCHS), *reversed(range(EPOCHS))]


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


def test_the_bars_of_every_layer_and_epoch_sum_to_one(make_run: Make) -> None:
    figure = choice(load_run(make_run("ssn")).importance)
    drawn = [[trace.x for trace in figure.data], *([trace.x for trace in frame.data] for frame in figure.frames)]
    assert len(drawn) == 1 + EPOCHS
    for bars in drawn:
        for panel in (bars[:3], bars[3:]):
            assert [sum(layer) for layer in zip(*panel, strict=True)] == pytest.approx([1] * len(LAYERS), abs=1e-4)


def test_the_bars_start_as_the_last_frame(make_run: Make) -> None:
    figure = choice(load_run(make_run("sn")).importance)
    assert [trace.x for trace in figure.data] == [trace.x for trace in figure.frames[-1].data]
    assert [frame.name for frame in figure.frames] == [str(epoch) for epoch in range(EPOCHS)]


def test_long_trainings_have_few_stops_with_the_first_and_the_last(make_run: Make) -> None:
    names = [frame.name for frame in choice(load_run(make_run("sn", epochs=101, layers=LAYERS[:2])).importance).frames]
    assert len(names) <= 41
    assert (names[0], names[-1]) == ("0", "100")


def test_a_statistic_has_one_colour_everywhere(make_run: Make) -> None:
    run = load_run(make_run("ssn"))
    bars = {(trace.name, trace.marker.color) for trace in choice(run.importance).data}
    areas = {(trace.name, trace.fillcolor) for trace in evolution(run.importance).data}
    assert bars == areas
    assert {name for name, _ in bars} == set(STATISTICS)


def test_the_average_over_layers_sums_to_one(make_run: Make) -> None:
    figure = evolution(load_run(make_run("sn")).importance)
    for traces in (figure.data[:3], figure.data[3:]):
        sums = [sum(values) for values in zip(*(trace.y for trace in traces), strict=True)]
        assert sums == pytest.approx([1] * EPOCHS, abs=1e-4)


def test_one_epoch_is_no_evolution(make_run: Make) -> None:
    assert evolution(load_run(make_run("sn", epochs=1)).importance) is None


def test_long_names_keep_their_end(make_run: Make) -> None:
    name = "features.denseblock3.denselayer12.norm1"
    figure = choice(load_run(make_run("sn", layers=[name])).importance)
    assert figure.layout.yaxis.ticktext == ("…k3.denselayer12.norm1",)
    assert figure.data[0].customdata == (name,)
