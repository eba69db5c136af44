"""Progress of a study: what is under way, and how long the rest takes."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from switchnorm.config.recipe import read_config
from switchnorm.recipes import find_recipe
from switchnorm.studies.parallel import Outcome
from switchnorm.studies.progress import StudyProgress, clock, cost


@pytest.fixture
def clockwork(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        now = 0.0

    monkeypatch.setattr("switchnorm.studies.progress.time.monotonic", lambda: Clock.now)
    return Clock


def make(tmp_path, terminal, batches=(32, 32, 32, 32), above=lambda path, outcome: None):
    config = read_config(find_recipe("digits/resnet9"), ("--device=cpu",))
    plan = [(tmp_path / str(place), replace(config, train=replace(config.train, batch_size=batch)))
            for place, batch in enumerate(batches)]  # fmt: skip
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    return [path for path, _ in plan], StudyProgress(plan, 2, lambda path, _: f"run {path.name}", above, console)


def finish_epochs(path, count) -> None:
    path.mkdir(exist_ok=True)
    (path / "metrics.csv").write_text("epoch\n" + "".join(f"{epoch + 1}\n" for epoch in range(count)))


def test_the_rest_takes_as_long_as_the_pace_says(tmp_path, clockwork):
    paths, progress = make(tmp_path, terminal=False)
    progress.started(paths[0])
    progress.started(paths[1])
    assert progress.seconds_left() is None
    clockwork.now = 40
    for path in paths[:2]:
        finish_epochs(path, 4)  # of 8: half a training in 40 seconds
    assert progress.seconds_left() == pytest.approx(40 + 80)
    clockwork.now = 80
    progress.ended(paths[0], Outcome({"val_accuracy": 0.5}))
    progress.ended(paths[1], Outcome({"val_accuracy": 0.5}))
    assert progress.seconds_left() == pytest.approx(80)
    progress.started(paths[2])
    assert progress.seconds_left() == pytest.approx(80)


def test_the_rest_shrinks_while_an_epoch_goes_on(tmp_path, clockwork):
    paths, progress = make(tmp_path, terminal=False, batches=(32, 32, 32))
    progress.started(paths[0])
    progress.started(paths[1])
    clockwork.now = 10
    finish_epochs(paths[0], 1)  # of 8, as the other's, which is seen 6 seconds later
    progress.tick()
    clockwork.now = 16
    assert progress.seconds_left() == pytest.approx(64 + 80)  # the third follows the first
    finish_epochs(paths[1], 1)
    progress.tick()
    clockwork.now = 18
    pace = (10 + 16) / 2
    assert progress.seconds_left() == pytest.approx(7 * pace - 8 + 8 * pace)


def test_epochs_from_before_an_interruption_took_no_time(tmp_path, clockwork):
    paths, progress = make(tmp_path, terminal=False, batches=(32,))
    finish_epochs(paths[0], 6)
    progress.started(paths[0])
    clockwork.now = 10
    finish_epochs(paths[0], 7)
    assert progress.seconds_left() == pytest.approx(10)


def test_small_batches_cost_more(tmp_path):
    config = read_config(find_recipe("digits/resnet9"), ("--device=cpu",))
    costs = [cost(replace(config, train=replace(config.train, batch_size=batch))) for batch in (8, 64, 256)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 2 * costs[1]


def test_plain_lines_without_a_terminal(tmp_path, clockwork):
    paths, progress = make(tmp_path, terminal=False)
    with progress:
        progress.ended(paths[0], Outcome({"val_accuracy": 0.912}))
        progress.started(paths[1])
        progress.started(paths[2])
        clockwork.now = 75
        finish_epochs(paths[1], 2)
        progress.tick()
        progress.tick()
        progress.ended(paths[2], Outcome(error="no memory"))
    assert progress.console.file.getvalue().splitlines() == [
        "[1/4] run 0: 91.2 %, was there already",
        "under way: run 1 epoch 2/8, run 2 epoch 0/8; 8:45 left",
        "[2/4] run 2: no memory, 1:15; 5:00 left",
    ]


def test_a_terminal_shows_the_table_and_what_is_under_way(tmp_path, clockwork):
    paths, progress = make(tmp_path, terminal=True, above=lambda path, outcome: "THE TABLE")
    with progress:
        progress.started(paths[0])
        progress.started(paths[1])
        finish_epochs(paths[1], 3)
        clockwork.now = 65
        progress.ended(paths[0], Outcome({"val_accuracy": 0.5}))
        progress.live.refresh()
    text = progress.console.file.getvalue()
    assert all(part in text for part in ("THE TABLE", "1 of 4 trainings", "epoch 3/8", "1:05", "50.0 %"))


def test_times_are_short():
    assert [clock(seconds) for seconds in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
