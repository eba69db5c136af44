"""SGD's momentum where the learning rate changes much."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.training.launch import resume
from tests.data.photos import write_tree
from tests.training.photo_runs import recipe_for, train
from tests.training.trainings import with_callback

FLAGS = ("--norm", "bn", "--optimizer.scale_momentum", "true", "--schedule.name", "step")
FLAGS += ("--schedule.milestones", "[1]", "--schedule.warmup_steps", "2", "--schedule.warmup_from", "0.95")


def test_momentum_follows_a_rate_that_changes_by_more_than_a_tenth(tmp_path):
    """4 steps in an epoch: the fifth has a tenth of the rate; 5 % of a warm-up's step change nothing."""
    seen: list[list[torch.Tensor]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            """Keep the momentum after each step."""
            states = trainer.optimizers[0].state.values()
            seen.append(copy.deepcopy([state["momentum_buffer"] for state in states]))

    recipe = recipe_for(write_tree(tmp_path / "photos"), tmp_path)
    runs = {}
    for value in ("true", "false"):
        seen.clear()
        with with_callback(Watch):
            runs[value] = train(recipe, tmp_path / value, *FLAGS, "--optimizer.scale_momentum", value)
        runs[value] = [list(each) for each in seen]
    for step in range(4):
        assert all(map(torch.equal, runs["true"][step], runs["false"][step])), step
    # The gradient of the fifth step is that of the same weights.
    for scaled, plain, before in zip(runs["true"][4], runs["false"][4], runs["false"][3], strict=True):
        torch.testing.assert_close(plain - scaled, 0.9 * 0.9 * before)


def test_a_resumed_run_scales_where_the_unkilled_one_does(tmp_path):
    recipe = recipe_for(write_tree(tmp_path / "photos"), tmp_path)
    whole = train(recipe, tmp_path / "whole", *FLAGS)
    stopped = train(recipe, tmp_path / "stopped", *FLAGS, stop=4)
    resume(stopped.path, quiet=True)
    left, right = (torch.load(run.last)["state_dict"] for run in (whole, stopped))
    assert all(torch.equal(value, right[key]) for key, value in left.items())


def test_an_optimizer_without_momentum_has_none_to_scale(tmp_path):
    recipe = recipe_for(tmp_path, tmp_path)
    for flags in (("--optimizer.name", "adamw"), ("--optimizer.momentum", "0", "--optimizer.nesterov", "false")):
        with pytest.raises(InputError, match=r"optimizer\.scale_momentum needs"):
            read_config(recipe, (*FLAGS, *flags))
