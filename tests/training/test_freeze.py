"""Frozen parts of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.training.build import build_model
from switchnorm.training.launch import resume
from switchnorm.training.rehearsal import dry_run
from tests.data.photos import write_tree
from tests.training.photo_runs import recipe_for, train

FROZEN = ("conv1", "bn1", "layer1")
FLAGS = ("--train.freeze", '["conv1", "bn1", "layer1"]', "--train.calibrate", "2", "--train.ema", "0.5")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    return recipe_for(write_tree(folder / "photos"), folder)


def states(run: RunFolder) -> dict[str, dict[str, torch.Tensor]]:
    """What the run evaluates, and what it trains."""
    checkpoint = torch.load(run.last)
    return {name: checkpoint[name] for name in ("state_dict", "trained_state_dict")}


@pytest.mark.parametrize("norm", ["bn", "ssn"])
def test_frozen_parts_are_bit_for_bit_what_they_began_as(recipe, tmp_path, norm):
    """With weight decay and momentum, an average of weights, calibration, SSN's radius, and a resumed run."""
    whole = train(recipe, tmp_path / "whole", "--norm", norm, *FLAGS)
    begun = build_model(whole.config(), 3).state_dict()
    for state in states(whole).values():
        for key, value in begun.items():
            frozen = key.startswith(FROZEN)
            if frozen or key.endswith(("conv1.weight", "running_mean")):
                assert torch.equal(state[f"model.{key}"], value) == frozen, key
    stopped = train(recipe, tmp_path / "stopped", "--norm", norm, *FLAGS, stop=6)
    resume(stopped.path, quiet=True)
    for name, state in states(stopped).items():
        assert all(torch.equal(value, states(whole)[name][key]) for key, value in state.items())
    if norm == "ssn":
        assert [float(row["radius"]) for row in whole.metrics()][-1] > 0, "of a layer that is trained"


def test_what_stays_at_random_is_said_and_what_matches_nothing_is_refused(recipe):
    (said, *_) = [line for line in dry_run(read_config(recipe, FLAGS)).said if "freeze" in line]
    assert said.startswith("train.freeze keeps conv1.weight and")
    with pytest.raises(InputError, match=r"train\.freeze: .*'layr1' matches no module; the nearest layer is 'layer1'"):
        build_model(read_config(recipe, ("--train.freeze", '["layr1"]')), 3)
    with pytest.raises(InputError, match="leaves nothing to train"):
        build_model(read_config(recipe, ("--train.freeze", '["*"]')), 3)
