"""Training in evaluation mode."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from switchnorm.errors import InputError
from switchnorm.training.build import build_model, prepare, training_batches
from switchnorm.training.launch import start
from switchnorm.weights import read_state
from tests.training.test_segmentation import write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


EVALUATING = ("--model", "resnet18+ppm_bilinear_deepsup", "--norm", "bn", "--train.eval_mode", "true")
EVALUATING += ("--model.options.dropout", "0.5", "--segmentation.deep_supervision")


def test_a_network_is_trained_in_evaluation_mode(recipe, tmp_path):
    """Statistics stay, in both epochs; all parameters are trained, those of the inner branch too."""
    config = read_config(recipe, (*EVALUATING, "0.5", "--train.epoch_steps", "1"))
    run, _ = start(config, tmp_path / "run", default=Path("x"), command=(), quiet=True)
    after = read_state(run.last)
    for key, value in build_model(config, 3).state_dict().items():
        assert torch.equal(after[key], value) == ("running" in key or "num_batches" in key), key


def test_nothing_is_dropped_in_evaluation_mode(recipe, tmp_path):
    config = read_config(recipe, (*EVALUATING, "0", "--lr", "0", "--epochs", "1"))
    run, _ = start(config, tmp_path / "run", default=Path("x"), command=(), quiet=True)
    model = build_model(config, 3).eval()
    losses = [loss_of(model, *batch) for batch in training_batches(config, create_dataset(**config.data))]
    assert float(run.metrics()[0]["train_loss"]) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@torch.no_grad()
def loss_of(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    logits = torch.nn.functional.interpolate(model(images)["out"], size=labels.shape[1:], mode="bilinear")
    return float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED))


@pytest.mark.parametrize("flag", ["--train.eval_mode", "--train.frozen_statistics"])
def test_one_picture_is_a_batch_where_its_statistics_are_not_asked_for(recipe, flag):
    """The pyramid averages a map to one pixel, whose statistics over a batch of one picture there are not."""
    flags = (*EVALUATING[:4], "--batch-size", "1", "--samples-per-gpu", "null")
    with pytest.raises(InputError, match="more than"):
        prepare(read_config(recipe, flags))
    prepare(read_config(recipe, (*flags, flag, "true")))
