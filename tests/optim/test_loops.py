"""SparseSchedule in the loops of others: scaled gradients, accumulation, closures, wrapped optimizers, compilation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, WeightAveraging
from timm.optim.lookahead import Lookahead
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from switchnorm import SparseSchedule, parameter_groups
from tests.optim.nets import CHOICES, all_final, batches, choices, loss_of, network, radii, sparse


def groups(model: nn.Module) -> list[dict[str, Any]]:
    return parameter_groups(model, lr=0.02, sparse_lr_factor=1.0)


OPTIMIZERS = {
    "plain": lambda model: torch.optim.SGD(groups(model), lr=0.02, foreach=False),
    "foreach": lambda model: torch.optim.SGD(groups(model), lr=0.02, foreach=True),
    "fused": lambda model: torch.optim.SGD(groups(model), lr=0.02, fused=True),
}


def trained(optimizer: str, steps: int, clip_norm: float) -> nn.Module:
    """By a plain loop."""
    model = network()
    sgd = OPTIMIZERS[optimizer](model)
    SparseSchedule(sgd, model, steps, clip_norm=clip_norm)
    for batch in batches(steps):
        sgd.zero_grad()
        loss_of(model, batch).backward()
        sgd.step()
    return model


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_scaled_gradients_are_clipped_as_what_they_stand_for(optimizer: str, unscale: bool) -> None:
    model = network()
    sgd = OPTIMIZERS[optimizer](model)
    SparseSchedule(sgd, model, 12, clip_norm=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for batch in batches(12):
        sgd.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        if unscale:
            scaler.unscale_(sgd)
        scaler.step(sgd)
        scaler.update()
    torch.testing.assert_close(model.state_dict(), trained(optimizer, 12, 0.05).state_dict(), rtol=1e-4, atol=1e-5)
    assert all_final(model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_that_are_skipped_do_not_count(optimizer: str) -> None:
    model = network()
    sgd = OPTIMIZERS[optimizer](model)
    SparseSchedule(sgd, model, 11)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step, batch in enumerate(batches(6)):
        sgd.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        if step in (0, 3):
            model[0].weight.grad[0, 0, 0, 0] = float("inf")
        scaler.step(sgd)
        scaler.update()
    assert radii(model) == pytest.approx([0.4, 0.4])
    assert all(p.isfinite().all() for p in model.parameters())


def test_batches_of_which_gradients_are_accumulated_do_not_count() -> None:
    model = network()
    sgd = OPTIMIZERS["plain"](model)
    SparseSchedule(sgd, model, 5)
    for index, batch in enumerate(batches(15)):
        (loss_of(model, batch) / 3).backward()
        assert radii(model) == pytest.approx([index // 3 / 4] * 2)
        if index % 3 == 2:
            sgd.step()
            sgd.zero_grad()
    assert all_final(model)


def test_gradients_that_a_closure_computes_are_clipped() -> None:
    model = network()
    sgd = OPTIMIZERS["plain"](model)
    SparseSchedule(sgd, model, 12, clip_norm=0.05)
    for index, batch in enumerate(batches(12)):

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            sgd.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        loss = sgd.step(closure) if index % 2 else sgd.step(closure=closure)
        assert isinstance(loss, Tensor)
    torch.testing.assert_close(model.state_dict(), trained("plain", 12, 0.05).state_dict(), rtol=0, atol=0)


def test_lbfgs_moves_the_radius_once_a_step() -> None:
    model = network()
    lbfgs = torch.optim.LBFGS(model.parameters(), lr=0.05, max_iter=4)
    SparseSchedule(lbfgs, model, 5, clip_norm=0.5)
    norms = []
    for batch in batches(3):

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            lbfgs.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        lbfgs.step(closure)
        logits = [p.grad for layer in sparse(model) for p in (layer.mean_weight, layer.var_weight)]
        norms.append(float(torch.cat(logits).norm()))
    assert radii(model) == pytest.approx([3 / 4] * 2)
    assert max(norms) <= 0.5 + 1e-5


class Wrapping(torch.optim.Optimizer):
    """As accelerate's: an optimizer without hooks of its own, which calls the step of another."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def step(self, closure: Any = None) -> None:
        self.optimizer.step(closure)


@pytest.mark.parametrize("wrap", [Wrapping, Lookahead, lambda optimizer: Wrapping(Wrapping(optimizer))])
def test_optimizers_in_wrappers(wrap: Any) -> None:
    model = network()
    wrapped = wrap(torch.optim.SGD(groups(model), lr=0.02))
    SparseSchedule(wrapped, model, 12)
    for batch in batches(12):
        model.zero_grad()
        loss_of(model, batch).backward()
        wrapped.step()
    assert all_final(model)


class Derived(torch.optim.SGD):
    """Whose step calls that of its base, so that hooks are called twice."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def test_a_step_that_calls_that_of_its_base_class_is_one_step() -> None:
    torch.optim.SGD([nn.Parameter(torch.ones(1))])  # hooks are put into a class when it is first used
    model = network()
    derived = Derived(groups(model), lr=0.02)
    SparseSchedule(derived, model, 13)
    for batch in batches(6):
        derived.zero_grad()
        loss_of(model, batch).backward()
        derived.step()
    assert radii(model) == pytest.approx([0.5, 0.5])


class Sharpness(torch.optim.Optimizer):
    """As SAM: it has a step, and a second way to call that of the optimizer inside."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer.param_groups, {})
        self.base_optimizer = optimizer

    def second_step(self) -> None:
        self.base_optimizer.step()

    def step(self, closure: Any = None) -> None:
        self.second_step()


@pytest.mark.parametrize("way", ["step", "second_step"])
def test_a_wrapper_with_ways_of_its_own(way: str) -> None:
    model = network()
    sharpness = Sharpness(torch.optim.SGD(groups(model), lr=0.02))
    SparseSchedule(sharpness, model, 13)
    for batch in batches(6):
        sharpness.zero_grad()
        loss_of(model, batch).backward()
        getattr(sharpness, way)()
    assert radii(model) == pytest.approx([0.5, 0.5])


def test_a_learning_rate_scheduler_beside_it() -> None:
    model = network()
    sgd = OPTIMIZERS["plain"](model)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 12)
    SparseSchedule(sgd, model, 12)
    for batch in batches(12):
        sgd.zero_grad()
        loss_of(model, batch).backward()
        sgd.step()
        rates.step()
    assert all_final(model)
    assert sgd.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


def test_one_of_several_optimizers() -> None:
    model = network()
    first, second = (torch.optim.SGD(part.parameters(), lr=0.02) for part in (model[:3], model[3:]))
    SparseSchedule(first, model[:3], 12)
    SparseSchedule(second, model[3:], 6)
    for index, batch in enumerate(batches(12)):
        model.zero_grad()
        loss_of(model, batch).backward()
        first.step()
        if index % 2:
            second.step()
    assert all_final(model)


def test_a_compiled_model() -> None:
    model = network()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    sgd = OPTIMIZERS["plain"](model)
    SparseSchedule(sgd, compiled, 12)
    for batch in batches(12):
        sgd.zero_grad()
        loss_of(compiled, batch).backward()
        sgd.step()
    assert counter.frame_count == 1, "neither the radius nor final choices compile it anew"
    assert all_final(model)
    torch.testing.assert_close(model.state_dict(), trained("plain", 12, 1.0).state_dict(), rtol=1e-3, atol=1e-4)


class Module(pl.LightningModule):
    def __init__(self, automatic: bool = True) -> None:
        super().__init__()
        self.model = network()
        self.automatic_optimization = automatic

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = loss_of(self.model, batch)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        loss_of(self.model, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = OPTIMIZERS["plain"](self.model)
        if self.automatic_optimization:
            SparseSchedule(optimizer, self.model, int(self.trainer.estimated_stepping_batches), clip_norm=0.05)
        return optimizer

    def on_train_start(self) -> None:
        if not self.automatic_optimization:
            SparseSchedule(self.optimizers(), self, 12, clip_norm=0.05)


class Loader(list[Any]):
    """Lightning takes a list of batches for a list of loaders."""


def fit(module: pl.LightningModule, **options: Any) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    pl.Trainer(**{**quiet, "enable_checkpointing": False, "max_epochs": 1, **options}).fit(
        module, Loader(batches(12)), Loader(batches(1))
    )


@pytest.mark.parametrize("automatic", [True, False])
def test_a_module_of_lightning(automatic: bool) -> None:
    """Also where the optimizer is the one that Lightning has wrapped."""
    module = Module(automatic)
    fit(module)
    torch.testing.assert_close(module.model.state_dict(), trained("plain", 12, 0.05).state_dict(), rtol=0, atol=0)
    assert all_final(module)


@pytest.mark.parametrize("make", [lambda: EMAWeightAveraging(decay=0.8), lambda: WeightAveraging(use_buffers=False)])
def test_averages_of_lightning(make: Any, tmp_path: Path) -> None:
    """It copies tensors past the layers: for validation, into checkpoints and at the end."""
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            self.trained = choices(pl_module.model)

        def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            seen.append((choices(pl_module.model), self.trained))

    module = Module()
    checkpoints = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    fit(module, callbacks=[make(), Watch()], max_epochs=2, val_check_interval=4, num_sanity_val_steps=0, **checkpoints)
    assert len(seen) == 6
    for validated, trained_ones in seen:
        assert validated == [pytest.approx(each) for each in trained_ones]
    assert seen[-1][0] == [(1, 1, 1)] * 2
    assert choices(module.model) == [(1, 1, 1)] * 2
    (path,) = tmp_path.rglob("*.ckpt")
    state = torch.load(path, weights_only=False)["state_dict"]
    assert [float(state[f"model.1.{name}"]) for name in CHOICES] == [1, 1, 1]
