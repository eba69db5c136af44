"""Numbers that are not finite end a run in one line, or their steps are left out; good checkpoints stay."""

import math
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from switchnorm.cli import main
from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.parallel import train_all
from switchnorm.surgery import switch, sync
from switchnorm.tasks.classification.task import Classification
from switchnorm.training import fit
from switchnorm.training.callbacks.agreement import Agreement
from switchnorm.training.callbacks.divergence import IN_A_ROW, DivergedError, Divergence
from switchnorm.training.launch import resume, start
from tests import processes
from tests.studies.test_parallel import Recorder
from tests.training.trainings import with_callback

#: Two epochs of 5 batches.
FLAGS = ("--epochs", "2", "--norm", "bn", "--samples-per-gpu", "null")


class Spoils(pl.Callback):
    """Does something to the task, and to the batch where there is one, the nth time that a hook is called."""

    def __init__(self, hook: str, spoil, *times: int) -> None:
        self.times = 0

        def act(trainer, task, *arguments) -> None:
            self.times += 1
            if self.times in times:
                with torch.no_grad():
                    spoil(task, *arguments)

        setattr(self, hook, act)


def spoiling(*arguments):
    """Have trainings be spoiled, see `Spoils`."""
    return with_callback(lambda: Spoils(*arguments))


@pytest.fixture
def begin(recipe, tmp_path):
    def train(*flags, name="run"):
        config = read_config(recipe, (*FLAGS, *flags))
        return start(config, tmp_path / name, default=tmp_path, command=(), quiet=True)[0]

    return train


def layer(task):
    return task.model.get_submodule(next(n for n, m in task.model.named_modules() if hasattr(m, "running_var")))


def picture(task, batch, *_):
    batch[0][0, 0, 0, 0] = math.nan


def gradient(task, *_):
    task.model.fc.weight.grad[0, 0] = math.inf


def statistics(task, *_):
    layer(task).running_var[0] = math.inf


def weight(task, *_):
    task.model.fc.weight[0, 0] = math.nan


@pytest.mark.parametrize(
    ("hook", "spoil", "time", "place", "first"),
    [
        ("on_train_batch_start", picture, 7, "epoch 2, step 2 of 5", "the batch of pictures"),
        ("on_after_backward", gradient, 8, "epoch 2, step 3 of 5", "the gradient of 'fc.weight'"),
        ("on_after_backward", statistics, 9, "epoch 2, step 4 of 5", "running_var'"),
        ("on_train_batch_start", weight, 10, "epoch 2, step 5 of 5", "'fc.weight'"),
        # After the last step, before it is evaluated, and while it is evaluated, before it is saved.
        ("on_train_batch_end", weight, 10, "epoch 2, step 5 of 5", "'fc.weight'"),
        ("on_validation_batch_start", weight, 3, "epoch 2, step 5 of 5", "'fc.weight'"),
    ],
)
def test_a_run_that_diverges_ends_in_a_line_and_keeps_its_good_checkpoints(
    begin, tmp_path, hook, spoil, time, place, first
):
    with spoiling(hook, spoil, time), pytest.raises(DivergedError) as caught:
        begin()
    said = str(caught.value)
    assert said.startswith(f"training diverged in {place}, at learning rate 0.0")
    assert f"{first} is not finite first" in said
    assert "\n" not in said
    run = RunFolder(tmp_path / "run")
    assert f"{run.last} is from before" in said
    for file in (run.last, run.best):
        kept = torch.load(file, weights_only=True)
        assert kept["epoch"] == 0
        assert all(value.isfinite().all() for value in kept["state_dict"].values())
    record = run.record()
    assert (record["status"], record["diverged"]["epoch"]) == ("diverged", 2)
    with pytest.raises(InputError, match=r"diverged in epoch 2 at learning rate .*lower --optimizer\.lr"):
        resume(run.path, quiet=True)


def test_a_diverged_run_is_shown_as_one(begin, recipe, tmp_path, capsys):
    with spoiling("on_train_batch_start", weight, 7), pytest.raises(DivergedError):
        begin()
    main(["report", str(tmp_path / "run")])
    assert "1 run diverged." in (tmp_path / "run/report.html").read_text()
    again = train_all([(tmp_path / "run", read_config(recipe, FLAGS))], (), Recorder())
    assert again[tmp_path / "run"].error == "diverged in epoch 2: 'fc.weight' is not finite"
    capsys.readouterr()
    run = RunFolder(tmp_path / "run")
    run.metrics_file.write_text(run.metrics_file.read_text().splitlines()[0] + "\n")
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(run.path)])
    assert "it diverged in epoch 2" in capsys.readouterr().err


def test_ssn_diverges_in_a_line_too(begin):
    with pytest.raises(DivergedError, match="training diverged in epoch 1, step 2 of 5"):
        begin("--norm", "ssn", "--optimizer.lr", "1e38", "--schedule.warmup_epochs", "0")


def test_a_step_too_far_for_the_optimizer_is_a_line_and_leaves_no_folder(begin, tmp_path):
    flags = ("--optimizer.name", "adamw", "--optimizer.lr", "1e38", "--schedule.warmup_epochs", "0")
    with pytest.raises(InputError, match=r"^the step of adamw overflows at --optimizer.lr 1e\+38; lower it$"):
        begin(*flags)
    assert not (tmp_path / "run").exists()


def test_a_loss_of_test_pictures_that_is_not_finite_is_kept_and_said(begin):
    with (
        spoiling("on_validation_batch_start", picture, 1),
        pytest.warns(UserWarning, match="^epoch 1: the loss of some"),
    ):
        run = begin()
    assert [row["val_loss"] == "nan" for row in run.metrics()] == [True, False]


def share_statistics(rank: int, world: int) -> dict[str, str]:
    """One process has pictures that are not finite, and layers that wait for the other."""
    os.environ["WORLD_SIZE"] = str(world)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    task = Classification(sync(switch(network, "bn")), 2)
    divergence = Divergence(RunFolder(Path("nowhere")), "stop", Agreement())
    divergence._step = {"epoch": 1, "step": 1, "steps": 1, "learning_rate": 0.1}
    divergence._batch = (torch.full((2, 1, 1, 1), math.nan if rank else 1.0), torch.zeros(2).long())
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(forward_context=nullcontext), is_global_zero=False)
    try:
        divergence.end(trainer, task)
    except DivergedError as error:
        return {"said": str(error)}
    return {}


def test_processes_that_share_statistics_end_together(tmp_path):
    for found in processes.run(__name__, 2, tmp_path):
        assert "the batch of pictures is not finite first" in found["said"]


def everything(task, averaged):
    """All that a step may change."""
    optimizer = task.trainer.optimizers[0]
    momenta = [each.get("momentum_buffer") for each in optimizer.state.values()]
    means = [value for mean in task.training_means for value in mean.sums.values()]
    return [value.clone() for value in (*task.state_dict().values(), *momenta, *means, *averaged.average.values())]


@pytest.mark.parametrize(("iteration_size", "before"), [(1, 3), (2, 2)])
def test_a_step_that_is_left_out_changes_nothing_and_is_counted(begin, tmp_path, monkeypatch, iteration_size, before):
    seen = []
    own = fit.step_callbacks

    def watched(*given):
        callbacks = [*own(*given), Spoils("on_train_batch_start", picture, 4)]
        averaged = next(each for each in callbacks if hasattr(each, "average"))
        look = Spoils("on_train_batch_end", lambda task, *_: seen.append(everything(task, averaged)), before, 4)
        return [*callbacks, look]

    flags = ("--train.on_divergence", "skip", "--train.ema", "0.5", "--train.iteration_size", str(iteration_size))
    monkeypatch.setattr(fit, "step_callbacks", watched)
    with pytest.warns(UserWarning, match="^1 of . steps of epoch 1 were left out"):
        run = begin(*flags)
    monkeypatch.undo()
    assert run.record()["steps_left_out"] == 1
    assert math.isfinite(float(run.metrics()[0]["train_loss"]))
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))
    # All goes on: the next step moves the weights.
    assert begin(*flags, name="well").record()["steps_left_out"] == 0
    states = [torch.load(tmp_path / name / "checkpoints/last.ckpt")["state_dict"] for name in ("run", "well")]
    assert any((a != b).any() for a, b in zip(*(state.values() for state in states), strict=True))


def test_too_many_steps_in_a_row_end_the_run(begin):
    flags = ("--train.on_divergence", "skip", "--train.epoch_steps", "30")
    with (
        spoiling("on_train_batch_start", picture, *range(2, 31)),
        pytest.raises(DivergedError, match=f"epoch 1, step {IN_A_ROW + 1} of 30"),
    ):
        begin(*flags)


def test_the_loss_scaler_may_leave_out_steps_but_not_all(tmp_path):
    scaled = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=object()))
    divergence = Divergence(RunFolder(tmp_path), "stop", Agreement())
    for bad in (*[True] * (IN_A_ROW - 1), False, *[True] * (IN_A_ROW - 1)):
        divergence._count(scaled, bad, {})
        assert not divergence.noticed
    divergence._count(scaled, True, {"step": 7})
    assert divergence.noticed


@pytest.mark.gpu
@pytest.mark.parametrize("flags", [(), ("--train.cuda_graph", "true"), ("--train.on_divergence", "skip")])
def test_on_a_gpu_too(begin, flags):
    with spoiling("on_train_batch_start", weight, 7), pytest.raises(DivergedError) as caught:
        begin("--device", "cuda", "--train.epoch_steps", "40", *flags)
    step = 7 + (IN_A_ROW - 1 if "skip" in flags else 0)
    assert f"epoch 1, step {step} of 40" in str(caught.value)


@pytest.mark.gpu
def test_precision_16_trains_on_a_gpu(begin):
    with spoiling("on_after_backward", gradient, 2, 3):
        assert begin("--precision", "16", "--device", "cuda").finished()


if __name__ == "__main__":
    processes.process(share_statistics)
