"""The moving average of weights, against a loop written by hand and against torch's own."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from switchnorm.config.recipe import read_config
from switchnorm.layers import SparseSwitchNorm2d
from switchnorm.tasks import Classification
from switchnorm.training.callbacks.averaging import WeightAverage
from switchnorm.training.evaluate import evaluate
from switchnorm.training.launch import start


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), SparseSwitchNorm2d(3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))


class Batches(list):
    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(1)
        draw = (torch.randn(6, 1, 4, 4, generator=generator) for _ in range(count))
        super().__init__((x, torch.arange(6) % 4) for x in draw)


def sgd(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


@pytest.fixture
def trained():
    """A network after 5 batches, its average, and the states it had after each optimizer step."""

    def fit(decay: float, accumulate: int = 1):
        torch.manual_seed(0)
        model = network()
        task = Classification(model, 4, make_optimizer=sgd)
        average = WeightAverage(decay)
        states = []

        class Watch(pl.Callback):
            def on_train_batch_end(self, trainer, pl_module, *args):
                if trainer.global_step > len(states):
                    states.append({key: value.clone() for key, value in model.state_dict().items()})

        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            accumulate_grad_batches=accumulate,
            callbacks=[average, Watch()],
            enable_model_summary=False,
            **options,
        ).fit(task, Batches(5))
        return average.average, states

    return fit


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_is_that_of_a_plain_loop(trained, accumulate):
    average, states = trained(0.7, accumulate)
    assert len(states) == -(-5 // accumulate)
    expected = states[0]
    for state in states[1:]:
        expected = {k: 0.7 * expected[k] + 0.3 * v if v.is_floating_point() else v for k, v in state.items()}
    for key, value in expected.items():
        torch.testing.assert_close(average[f"model.{key}"], value, msg=lambda text, key=key: f"{key}: {text}")


def test_parameters_are_averaged_as_torch_does(trained):
    average, states = trained(0.9)
    model = network()
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for state in states:
        model.load_state_dict(state)
        reference.update_parameters(model)
    for name, parameter in reference.module.named_parameters():
        torch.testing.assert_close(average[f"model.{name}"], parameter.data)


def test_counters_choices_and_schedules_are_taken_as_they_are():
    model = network()
    average = WeightAverage(0.9)
    average._update(model)
    model[1].radius.fill_(0.5)
    model[1].mean_fixed.fill_(1)
    model[2].num_batches_tracked.fill_(7)
    average._update(model)
    assert average.average["1.radius"] == 0.5
    assert average.average["1.mean_fixed"] == 1
    assert average.average["2.num_batches_tracked"] == 7


def test_a_run_evaluates_and_keeps_the_average(recipe, tmp_path):
    flags = ("--norm", "bn", "--epochs", "2", "--batch-size", "512", "--samples-per-gpu", "null", "--train.ema", "0.5")
    run, result = start(read_config(recipe, flags), tmp_path / "run", default=Path("x"), command=(), quiet=True)
    last, best = (torch.load(run.checkpoints / name, weights_only=True) for name in ("last.ckpt", "best.ckpt"))
    weight = "model.conv1.weight"
    assert not torch.equal(last["state_dict"][weight], last["trained_state_dict"][weight])
    found = evaluate(run, run.last)
    assert found.metrics["val_accuracy"] == result["val_accuracy"]
    assert evaluate(run, run.best).metrics["val_accuracy"] == result["best_val_accuracy"]
    if best["global_step"] == last["global_step"]:
        assert torch.equal(best["state_dict"][weight], last["state_dict"][weight])
    plain, _ = start(read_config(recipe, flags[:-2]), tmp_path / "plain", default=Path("x"), command=(), quiet=True)
    raw = torch.load(plain.last, weights_only=True)["state_dict"]
    assert all(torch.equal(value, last["trained_state_dict"][key]) for key, value in raw.items()), (
        "averaging must not change the training"
    )


def test_validation_sees_the_average_and_training_the_weights():
    torch.manual_seed(0)
    model = network()
    seen = []

    class Watch(pl.Callback):
        def on_validation_epoch_start(self, trainer, pl_module):
            seen.append(model[0].weight.detach().clone())

        def on_train_epoch_start(self, trainer, pl_module):
            seen.append(model[0].weight.detach().clone())

    average = WeightAverage(0.9)
    task = Classification(model, 4, make_optimizer=sgd)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[average, Watch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(task, Batches(3), Batches(1))
    after = average.average["model.0.weight"]
    assert torch.equal(seen[1], after)
    assert not torch.equal(model[0].weight, after)


def test_shared_modules_are_averaged_once(tmp_path):
    """Under both of their names, in validation, in checkpoints and in a run that is resumed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 4))
    model.add_module("again", nn.Sequential(model[0], nn.Identity()))
    model.again.forward = lambda x: x
    average = WeightAverage(0.9)
    task = Classification(model, 4, make_optimizer=sgd)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        max_epochs=1, callbacks=[average], num_sanity_val_steps=0, enable_checkpointing=False, **options
    )
    trainer.fit(task, Batches(3), Batches(1))
    trained = model[0].weight.detach().clone()
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    saved = torch.load(tmp_path / "x.ckpt", weights_only=False)
    averaged = average.average["model.0.weight"]
    assert not torch.equal(averaged, trained), "validation has put the weights back"
    for name in ("model.0.weight", "model.again.0.weight"):
        assert torch.equal(saved["state_dict"][name], averaged)
        assert torch.equal(saved["trained_state_dict"][name], trained)
    again = WeightAverage(0.9)
    again.on_load_checkpoint(trainer, task, saved)
    assert again.average.keys() == average.average.keys()
