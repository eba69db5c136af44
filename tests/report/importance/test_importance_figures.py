"""What the figures of importance hold, before anything draws them."""

from __future__ import annotations

import pytest

from switchnorm.report.importance.importance_figures import average_over_epochs, bars_by_layer
from switchnorm.runs.run import load_run
from tests.report.conftest import EPOCHS, LAYERS, STATISTICS, Make


def test_the_bars_of_every_layer_and_epoch_sum_to_one(make_run: Make) -> None:
    figure = bars_by_layer(load_run(make_run("ssn")).importance)
    drawn = [[trace.x for trace in figure.data], *([trace.x for trace in frame.data] for frame in figure.frames)]
    assert len(drawn) == 1 + EPOCHS
    for bars in drawn:
        for panel in (bars[:3], bars[3:]):
            assert [sum(layer) for layer in zip(*panel, strict=True)] == pytest.approx([1] * len(LAYERS), abs=1e-4)


def test_the_bars_start_as_the_last_frame(make_run: Make) -> None:
    figure = bars_by_layer(load_run(make_run("sn")).importance)
    assert [trace.x for trace in figure.data] == [trace.x for trace in figure.frames[-1].data]
    assert [frame.name for frame in figure.frames] == [str(epoch + 1) for epoch in range(EPOCHS)]


def test_long_trainings_have_few_stops_with_the_first_and_the_last(make_run: Make) -> None:
    names = [
        frame.name for frame in bars_by_layer(load_run(make_run("sn", epochs=101, layers=LAYERS[:2])).importance).frames
    ]
    assert len(names) <= 41
    assert (names[0], names[-1]) == ("1", "101")


def test_a_statistic_has_one_colour_everywhere(make_run: Make) -> None:
    run = load_run(make_run("ssn"))
    bars = {(trace.name, trace.marker.color) for trace in bars_by_layer(run.importance).data}
    areas = {(trace.name, trace.fillcolor) for trace in average_over_epochs(run.importance).data}
    assert bars == areas
    assert {name for name, _ in bars} == set(STATISTICS)


def test_the_average_over_layers_sums_to_one(make_run: Make) -> None:
    figure = average_over_epochs(load_run(make_run("sn")).importance)
    for traces in (figure.data[:3], figure.data[3:]):
        sums = [sum(values) for values in zip(*(trace.y for trace in traces), strict=True)]
        assert sums == pytest.approx([1] * EPOCHS, abs=1e-4)


def test_one_epoch_is_no_evolution(make_run: Make) -> None:
    assert average_over_epochs(load_run(make_run("sn", epochs=1)).importance) is None


def test_long_names_keep_their_end(make_run: Make) -> None:
    name = "features.denseblock3.denselayer12.norm1"
    figure = bars_by_layer(load_run(make_run("sn", layers=[name])).importance)
    assert figure.layout.yaxis.ticktext == ("…k3.denselayer12.norm1",)
    assert figure.data[0].customdata == (name,)
