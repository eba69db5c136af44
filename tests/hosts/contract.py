"""What has to hold for every host under every normalizer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from switchnorm import fuse, plan_switch
from switchnorm.surgery import SwitchPlan
from tests.hosts.host import Host
from tests.hosts.normalizers import spec, switched


class Trial:
    """One host under one normalizer, before and after.

    Attributes:
        original: the host as its authors wrote it, after two batches, so that running statistics know something.
        plan: of a copy, carried out where the model is asked for.
        model: that copy, switched.
    """

    def __init__(self, host: Host, normalizer: str) -> None:
        self.host = host
        self.normalizer = normalizer

    @property
    def original(self) -> nn.Module:
        return original(self.host)

    @cached_property
    def plan(self) -> SwitchPlan:
        return plan_switch(copy.deepcopy(self.original), spec(self.normalizer))

    @cached_property
    def model(self) -> nn.Module:
        return switched(self.plan, self.normalizer)

    @cached_property
    def evaluated(self) -> list[Tensor]:
        """Outputs of the model in evaluation."""
        return outputs(self.host, self.model.eval())


def built(host: Host, seed: int = 0) -> nn.Module:
    """A host with random weights of its own."""
    torch.manual_seed(seed)
    return host.build()


@lru_cache(maxsize=1)
def original(host: Host) -> nn.Module:
    """A host that has seen two batches, the same for all normalizers."""
    model = built(host)
    for _ in range(2):
        outputs(host, model.train())
    return model


@lru_cache(maxsize=1)
def gradients_before(host: Host) -> dict[str, bool]:
    """Which trainable parameters of a host have a gradient after a step."""
    gradients, _ = step(host, copy.deepcopy(original(host)))
    return {name: gradient is not None for name, gradient in gradients.items()}


def check(host: Host, normalizer: str) -> Trial:
    """All of the contract, in order; returns what was tried.

    Raises:
        AssertionError, or whatever the model raises, with a note that says in which part.
    """
    trial = Trial(host, normalizer)
    for name, part in PARTS.items():
        try:
            part(trial)
        except Exception as error:
            error.add_note(f"{host.name} under {normalizer}: {name}")
            raise
    return trial


def gradients_are_finite_and_complete(trial: Trial) -> None:
    """A training step: outputs and gradients are finite, and what is new in the model learns as what was there."""
    before = gradients_before(trial.host)
    model = copy.deepcopy(trial.model)
    learning = learns(model)
    after, losses = step(trial.host, model)
    assert all(map(finite, losses)), "an output is not finite"
    assert not [name for name, gradient in after.items() if gradient is not None and not finite(gradient)]
    without = {name for name, gradient in after.items() if gradient is None}
    new = {name for name in after if name not in before}
    assert new <= set(trial.plan.new_parameters)
    assert not {name for name in without & new if name.rpartition(".")[0] in learning}, "new, without a gradient"
    assert without - new == {name for name, learned in before.items() if not learned} & set(after)
    assert all(map(finite, outputs(trial.host, model))), "an output after the step is not finite"


def evaluation_is_finite(trial: Trial) -> None:
    """Outputs in evaluation, with the running statistics that two batches left."""
    assert all(map(finite, trial.evaluated))


def the_state_dict_reloads(trial: Trial) -> None:
    """Strictly, into another model that was switched alike."""
    plan = plan_switch(built(trial.host, seed=1), spec(trial.normalizer))
    other = switched(plan, trial.normalizer)
    other.load_state_dict(trial.model.state_dict(), strict=True)
    same(outputs(trial.host, other.eval()), trial.evaluated, 0)


def copies_are_equal_and_apart(trial: Trial) -> None:
    """`deepcopy`: the same output, and no tensor in common."""
    twin = copy.deepcopy(trial.model.eval())
    same(outputs(trial.host, twin), trial.evaluated, 0)
    ours = {tensor.data_ptr() for tensor in trial.model.state_dict().values() if tensor.numel()}
    assert not ours & {tensor.data_ptr() for tensor in twin.state_dict().values() if tensor.numel()}


def fusing_changes_nothing(trial: Trial) -> None:
    """`fuse`: outputs in training and in evaluation are equal to 1e-5 of the largest value."""
    fused, plain = fuse(copy.deepcopy(trial.model)), trial.model
    same(outputs(trial.host, fused.eval()), trial.evaluated, 1e-5)
    same(outputs(trial.host, fused.train()), outputs(trial.host, plain.train()), 1e-5)


#: The parts, by what the table calls them.
PARTS: dict[str, Callable[[Trial], None]] = {
    "training step, finite gradients of all parameters": gradients_are_finite_and_complete,
    "evaluation": evaluation_is_finite,
    "strict reload of the state dict": the_state_dict_reloads,
    "deepcopy": copies_are_equal_and_apart,
    "fuse": fusing_changes_nothing,
}


def outputs(host: Host, model: nn.Module) -> list[Tensor]:
    """What the model answers, in its mode, with nothing kept for a backward pass."""
    with torch.no_grad():
        return host.run(model)


def step(host: Host, model: nn.Module) -> tuple[dict[str, Tensor | None], list[Tensor]]:
    """One step of SGD under random cotangents; gradients of trainable parameters by name, and outputs."""
    answers = host.run(model.train())
    learning = [answer for answer in answers if answer.requires_grad]
    torch.autograd.backward(learning, [torch.randn_like(answer) for answer in learning])
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    return gradients, answers


def learns(model: nn.Module) -> set[str]:
    """Names of the modules that are called with gradients on, filled in by the next forward pass."""
    names: set[str] = set()
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: names.add(name) if torch.is_grad_enabled() else None)
    return names


def finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def same(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    """As many tensors, each equal to `tolerance` of the largest absolute value there."""
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
    for our, their in zip(ours, theirs, strict=True):
        bound = tolerance * their.detach().abs().max() if their.numel() else 0
        assert ((our - their).abs() <= bound).all(), f"off by {(our - their).abs().max():.2g}, allowed {bound:.2g}"
