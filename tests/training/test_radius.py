"""How SSN's radius grows over a run, by the keys of its schedule."""

import pytest

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.fit import radius_shape
from switchnorm.training.launch import resume, start
from switchnorm.training.words import outcome
from tests.training.trainings import StoppedError, stopping


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 997])
def test_by_default_it_is_the_published_one_bit_by_bit(recipe, steps):
    radius = radius_shape(read_config(recipe), steps)
    assert [radius(step) for step in range(steps + 2)] == [
        min(step / max(steps - 1, 1), 1.0) for step in range(steps + 2)
    ]


@pytest.mark.parametrize(
    ("flags", "after"),
    [
        ((), [4 / 9, 1]),
        (("--schedule.radius_end", "0.5"), [8 / 9, 1]),
        (("--schedule.radius_start", "0.5"), [0, 1]),
        (("--schedule.radius_power", "2"), [16 / 81, 1]),
        (("--schedule.radius_start", "0.25", "--schedule.radius_end", "0.75", "--schedule.radius_power", "0.5"), None),
    ],
)
def test_a_run_follows_its_keys(recipe, tmp_path, flags, after):
    run, _ = start(read_config(recipe, flags), tmp_path / "run", default=tmp_path, command=(), quiet=True)
    after = after or [((4 / 9 - 0.25) / 0.5) ** 0.5, 1]
    assert [float(row["radius"]) for row in run.metrics()] == pytest.approx(after, abs=1e-5)


def test_a_resumed_run_follows_them_too(recipe, tmp_path, monkeypatch):
    flags = ("--schedule.radius_end", "0.8", "--schedule.radius_power", "2", "--train.checkpoint_minutes", "0")
    config = read_config(recipe, flags)
    whole, _ = start(config, tmp_path / "whole", default=tmp_path, command=(), quiet=True)

    with monkeypatch.context() as patched:
        patched.setattr(MidEpochCheckpoint, "on_train_batch_end", stopping(3))
        with pytest.raises(StoppedError):
            start(config, tmp_path / "run", default=tmp_path, command=(), quiet=True)
    run, _ = resume(tmp_path / "run", quiet=True)
    radii = [[row["radius"] for row in each.metrics()] for each in (whole, run)]
    assert radii[0] == radii[1]
    assert float(radii[0][0]) == pytest.approx((4 / 9 / 0.8) ** 2, abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("radius_start", "0.5", "radius_end", "0.5"), "radius_end must be above schedule.radius_start, 0.5, got 0.5"),
        (("radius_start", "0.9", "radius_end", "0.3"), "radius_end must be above schedule.radius_start, 0.9, got 0.3"),
        (("radius_end", "0"), "radius_end must be above schedule.radius_start, 0, got 0"),
        (("radius_end", "1.1"), "radius_end must be at most 1, got 1.1"),
        (("radius_start", "1"), "radius_start must be below 1, got 1.0"),
        (("radius_start", "-0.1"), "radius_start must be at least 0, got -0.1"),
        (("radius_power", "0"), "radius_power must be above 0; 1 is linear"),
        (("radius_power", "-2"), "radius_power must be at least 0, got -2.0"),
        (("radius_power", "inf"), "radius_power: expected float. Got value: inf"),
    ],
)
def test_wrong_numbers_are_one_line(recipe, flags, message):
    keys = [f"--schedule.{word}" if word.startswith("radius") else word for word in flags]
    with pytest.raises(InputError) as caught:
        read_config(recipe, keys)
    assert str(caught.value) == f"schedule.{message}"


@pytest.mark.parametrize(
    ("flags", "when"),
    [((), "in the last epoch"), (("--schedule.radius_end", "0.9"), "after 0.9 of the run")],
)
def test_a_run_that_ends_early_says_when_it_would_have_been_1(recipe, tmp_path, flags, when):
    still = ("--lr", "0", "--optimizer.sparse_lr_factor", "0", "--train.epoch_steps", "1", "--epochs", "9")
    config = read_config(recipe, (*still, "--train.patience", "1", *flags))
    run, result = start(config, tmp_path / "run", default=tmp_path, command=(), quiet=True)
    radius = run.record()["stopped"]["radius"]
    assert 0 < radius < 1
    said = f"  SSN's radius is {radius:.2f}: it would have been 1 {when}, and all choices final"
    assert said in outcome(run, result)
