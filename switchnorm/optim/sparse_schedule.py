"""Sparse layers in anybody's loop: what SSN needs around a step, done by the optimizer's hooks."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from switchnorm.errors import InputError
from switchnorm.layers.arguments import check_model
from switchnorm.optim.radius import RadiusShape, rounded
from switchnorm.surgery.importance import is_sparse, mixing_layers

_LOGITS = ("mean_weight", "var_weight")

#: Choices are made final this often in a training: to look for them waits for the device.
_HARDENINGS = 100


class SparseSchedule:
    """Lets the SSN layers of a model become sparse while an optimizer trains it; nothing else need be called.

    With every step of the optimizer that counts, the gradients of the logits are clipped, all together, then the
    radius moves on, and what has become one-hot is made final: after each hundredth of the steps, when the radius
    reaches 1, and after the last step. Beyond the last step the radius stays 1. A step that a `GradScaler` skips does
    not count, and neither do the batches of which gradients are accumulated.

    The schedule keeps no state of its own: the step is read from the layers' radius, so a model whose state dict was
    loaded, before or after the schedule was made, goes on where it was. See `RadiusShape` for how exactly.

    The optimizer holds the schedule. A deep copy or a pickle of the optimizer has no hooks, and so no schedule.

        optimizer = torch.optim.SGD(switchnorm.parameter_groups(model, lr=0.1), lr=0.1)
        switchnorm.SparseSchedule(optimizer, model, steps=epochs * len(batches))

    Args:
        optimizer: what trains the logits; also one that Lightning, accelerate or timm's Lookahead has wrapped.
        model: the network or a wrapper of it. Layers whose logits are frozen now keep their radius.
        steps: optimizer steps of the training.
        start, end, power: the shape of the radius, see `RadiusShape`; as published by default.
        clip_norm: largest norm of the gradients of the logits together, as in SSN's published training; None for none.

    Raises:
        InputError: a model without SSN layers, or with frozen ones only; an optimizer that was made before `switch`, so
            that it does not have their logits; layers that have a schedule already; a number outside its range.

    Warns:
        UserWarning: where the optimizer has the logits of some of the layers only.
    """

    def __init__(
        self,
        optimizer: Any,
        model: nn.Module,
        steps: int,
        *,
        start: float = 0.0,
        end: float = 1.0,
        power: float = 1.0,
        clip_norm: float | None = 1.0,
    ) -> None:
        if clip_norm is not None and not clip_norm > 0:
            raise InputError(f"clip_norm must be above 0, got {clip_norm}; None clips nothing")
        self._shape = RadiusShape(steps, start, end, power)
        self._clip_norm = clip_norm
        inner = _hookable(optimizer)
        layers = _learning(model)
        _check_free(layers)
        self._clipped = _held(inner, layers)
        self._layers = list(layers.values())
        self._every = max(steps // _HARDENINGS, 1)
        self._step = 0
        self._written: list[tuple[Tensor, int]] = []
        self._handles = (inner.register_step_pre_hook(self._before), inner.register_step_post_hook(self._after))
        for layer in self._layers:
            _SCHEDULES[layer] = weakref.ref(self)

    def remove(self) -> None:
        """Take the hooks from the optimizer: radius and choices stay as they are."""
        for handle in self._handles:
            handle.remove()
        for layer in self._layers:
            _SCHEDULES.pop(layer, None)

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Clip, where gradients are there only once a closure was called (LBFGS, Lightning), after each call of it."""

        closures = [each for each in (*args, *kwargs.values()) if callable(each) and each is not optimizer]
        if not closures:
            self._clip(optimizer)
            return None
        clipping = {id(each): self._clipping(each, optimizer) for each in closures}
        return (
            tuple(clipping.get(id(each), each) for each in args),
            {key: clipping.get(id(each), each) for key, each in kwargs.items()},
        )

    def _clipping(self, closure: Callable[[], Any], optimizer: Any) -> Callable[[], Any]:
        def clipped() -> Any:
            loss = closure()
            self._clip(optimizer)
            return loss

        return clipped

    def _clip(self, optimizer: Any) -> None:
        """Clip the logits' gradients as `torch.nn.utils.clip_grad_norm_` does.

        Fused optimizers get gradients that a `GradScaler` has scaled: what is clipped is what they stand for.
        """
        parameters = [layer._parameters[name] for layer, name in self._clipped]
        gradients = [p.grad for p in parameters if p is not None and p.grad is not None]
        if self._clip_norm is None or not gradients:
            return
        norm = get_total_norm(gradients)
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None:
            norm = norm / scale.to(norm.device)
        clip_grads_with_norm_([p for p in parameters if p is not None], self._clip_norm, norm)

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        found_inf = getattr(optimizer, "found_inf", None)  # of a GradScaler, with a fused optimizer
        if found_inf is not None and float(found_inf):
            return
        before = self._current()
        step = before + 1
        radius = self._shape(step)
        reached = radius == 1 and self._shape(before) < 1
        if radius != self._shape(before) or not self._unchanged():
            for layer in self._layers:
                layer.set_radius(radius)
        self._step, self._written = step, [(layer.radius, layer.radius._version) for layer in self._layers]
        if step % self._every == 0 or reached or step == self._shape.steps:
            for layer in self._layers:
                layer.harden()

    def _current(self) -> int:
        """The step of which the layers have the radius.

        It is read only where somebody else wrote it, for that waits for the device. Under DistributedDataParallel
        every forward pass does, by sending buffers, unless `broadcast_buffers` is false.
        """
        if self._unchanged():
            return self._step
        first = self._layers[0].radius.device
        radii: list[float] = torch.cat([layer.radius.detach().to(first) for layer in self._layers]).tolist()
        # Of layers of several trainings the one that has come least far counts, so that none misses a part.
        least = min(range(len(radii)), key=radii.__getitem__)
        dtype = self._layers[least].radius.dtype
        if radii[least] == rounded(self._shape(self._step), dtype):
            return self._step
        return self._shape.step(radii[least], dtype)

    def _unchanged(self) -> bool:
        """Whether the radii are what this schedule wrote last."""
        return len(self._written) > 0 and all(
            layer.radius is radius and radius._version == version
            for layer, (radius, version) in zip(self._layers, self._written, strict=True)
        )


#: The schedule of a layer, for as long as an optimizer holds it.
_SCHEDULES: weakref.WeakKeyDictionary[nn.Module, weakref.ref[SparseSchedule]] = weakref.WeakKeyDictionary()


def _hookable(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer whose step calls hooks, inside of what wraps it."""
    inner = optimizer
    while inner is not None:
        if isinstance(inner, torch.optim.Optimizer) and getattr(type(inner).step, "hooked", False):
            return inner
        inner = next((vars(inner)[name] for name in _INNER if name in getattr(inner, "__dict__", ())), None)
    raise InputError(
        f"{type(optimizer).__name__} is no torch.optim.Optimizer whose step calls hooks; give the one that it wraps"
    )


#: Under which names wrappers hold their optimizer: accelerate's and Lightning's, timm's Lookahead, others.
_INNER = ("optimizer", "_optimizer", "_base_optimizer", "base_optimizer")


def _learning(model: nn.Module) -> dict[str, Any]:
    """The sparse layers whose logits are trained, by name."""
    check_model("SparseSchedule", model)
    sparse = {name: layer for name, layer in mixing_layers(model) if is_sparse(layer)}
    if not sparse:
        raise InputError(
            "the model has no SSN layer, and nothing else needs a schedule; switch(model, 'ssn') makes some"
        )
    learning = {
        name: layer for name, layer in sparse.items() if any(getattr(layer, each).requires_grad for each in _LOGITS)
    }
    if not learning:
        raise InputError(
            f"the logits of all {len(sparse)} SSN layers are frozen and can choose nothing; "
            "requires_grad_(True) makes them learn"
        )
    return learning


def _check_free(layers: dict[str, nn.Module]) -> None:
    """Raise `InputError` for a layer that has a schedule."""

    def taken() -> str | None:
        return next((name for name, layer in layers.items() if _SCHEDULES.get(layer, lambda: None)() is not None), None)

    if taken() is not None:
        gc.collect()  # an optimizer that nobody has any more may wait for that, with its schedule
    if (name := taken()) is not None:
        raise InputError(f"layer {name!r} has a SparseSchedule already; call its remove() first")


def _held(optimizer: torch.optim.Optimizer, layers: dict[str, Any]) -> list[tuple[Any, str]]:
    """The logits that the optimizer trains, as layers and names of their parameters."""
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    learning = [
        (name, layer, each) for name, layer in layers.items() for each in _LOGITS if getattr(layer, each).requires_grad
    ]
    held = [(layer, each) for _, layer, each in learning if id(getattr(layer, each)) in own]
    if not held:
        raise InputError(
            "the optimizer trains no logit of the model's SSN layers; make it after switch, "
            "from switchnorm.parameter_groups(model, lr=...)"
        )
    if len(held) < len(learning):
        missing = next(f"{name}.{each}" for name, layer, each in learning if id(getattr(layer, each)) not in own)
        warnings.warn(
            f"{len(learning) - len(held)} of {len(learning)} SSN logits are not in this optimizer, such as "
            f"{missing!r}; unless another one trains them, make the optimizer after switch",
            stacklevel=3,
        )
    return held
