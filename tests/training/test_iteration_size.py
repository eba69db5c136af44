"""Steps over several batches: their gradients are the mean over the batches that are in them, in every step."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from switchnorm.config.recipe import read_config
from switchnorm.training.build import build_model, prepare, training_batches
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.launch import resume, start
from switchnorm.training.optimizer import make_optimizer
from tests.forked import together
from tests.training.trainings import StoppedError, stopping, with_callback

#: Two epochs of 5 batches, in steps of 3 and of the 2 that are left.
FLAGS = ("--norm", "gn", "--batch-size", "8", "--samples-per-gpu", "null", "--precision", "64")
FLAGS += ("--train.epoch_steps", "5", "--train.iteration_size", "3", "--train.checkpoint_minutes", "0")
STEPS = ((0, 3), (3, 5), (5, 8), (8, 10))


def state(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints/last.ckpt")["state_dict"]


def assert_close(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-9, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}")


class Gradients(pl.Callback):
    """Keeps the gradients of each step, before they are clipped."""

    def __init__(self, seen: list[list[torch.Tensor]]) -> None:
        self.seen = seen

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.seen.append([each.grad.clone() for each in pl_module.parameters()])


@pytest.mark.parametrize("clip", ["null", "0.5"])
def test_every_step_is_that_of_a_plain_loop(recipe, tmp_path, clip):
    config = read_config(recipe, (*FLAGS, "--optimizer.clip_norm", clip))
    seen: list[list[torch.Tensor]] = []
    with with_callback(lambda: Gradients(seen)):
        start(config, tmp_path / "run", default=tmp_path, command=(), quiet=True)

    _, dataset = prepare(config)
    model = build_model(config, 10)
    loader = training_batches(config, dataset)
    batches = [batch for _ in range(2) for batch in islice(loader, 5)]
    optimizer, schedule = make_optimizer(model, len(STEPS), config)
    for (first, end), gradients in zip(STEPS, seen, strict=True):
        optimizer.zero_grad()
        losses = [F.cross_entropy(model(images.double()), labels) for images, labels in batches[first:end]]
        torch.stack(losses).mean().backward()
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)
        if clip != "null":
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float(clip))
            assert norm > float(clip), "nothing was clipped"
        optimizer.step()
        schedule.step()
    assert_close(
        {key.removeprefix("model."): value for key, value in state(tmp_path / "run").items()}, model.state_dict()
    )


def test_a_resumed_run_and_several_processes_take_the_same_steps(recipe, tmp_path):
    begin = {"default": tmp_path, "command": (), "quiet": True}
    whole = tmp_path / "whole"
    start(read_config(recipe, FLAGS), whole, **begin)
    with patch.object(MidEpochCheckpoint, "on_train_batch_end", stopping(3)), pytest.raises(StoppedError):
        start(read_config(recipe, FLAGS), tmp_path / "stopped", **begin)
    stopped = tmp_path / "stopped"
    assert torch.load(stopped / "checkpoints/last.ckpt")["global_step"] == 3, "between both steps of an epoch"
    resume(stopped, quiet=True)
    assert all(torch.equal(value, state(stopped)[key]) for key, value in state(whole).items())
    done = together(tmp_path, 2, "-m", "switchnorm", "train", recipe, *FLAGS, "--out", "two")
    assert done.returncode == 0, done.stderr
    assert_close(state(tmp_path / "two"), state(whole))
