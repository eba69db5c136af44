"""Sparse layers in anybody's loop: what SSN needs around a step, done by the optimizer's hooks."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_

from switchnorm.errors import InputError
from switchnorm.optim.clipping import norm_of_gradients
from switchnorm.optim.logits import Logits, hookable, learning_layers, not_held, of, trainable
from switchnorm.optim.numbers import check_number
from switchnorm.optim.radius import RadiusShape, rounded

_MOMENTS = ("mean", "var")

#: So many layers are named in a warning.
_NAMED = 5

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
        model: the network or a wrapper of it. Layers whose logits are frozen, now or for some of the steps, stay what
            they are meanwhile.
        steps: optimizer steps of the training.
        start, end, power: the shape of the radius, see `RadiusShape`; as published by default.
        clip_norm: largest norm of the gradients of the logits together, as in SSN's published training; None for none.

    Raises:
        InputError: a model without SSN layers, or with frozen ones only; an optimizer that was made before `switch`, so
            that it does not have their logits; layers that have a schedule already; a number outside its range.

    Warns:
        UserWarning: where the optimizer has the logits of some of the layers only; after the last step, where layers
            have not come to a choice, because their logits are equal.
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
        if clip_norm is not None and not check_number("clip_norm", clip_norm) > 0:
            raise InputError(f"clip_norm must be above 0, got {clip_norm}; None clips nothing")
        self._shape = RadiusShape(steps, start, end, power)
        self._clip_norm = clip_norm
        self._named = learning_layers(model)
        self._layers = list(self._named.values())
        _check_free(self._named)
        inner = hookable(optimizer, self._layers)
        self._say_what_is_not_held(inner)
        self._held: tuple[int, list[Logits]] = (0, [])
        self._final: tuple[list[tuple[Tensor, int]], list[Logits]] = ([], [])
        self._stepping = False
        self._every = max(steps // _HARDENINGS, 1)
        self._step = 0
        self._learning: list[Any] = []
        self._written: dict[Any, tuple[Tensor, int]] = {}
        self._handles = (inner.register_step_pre_hook(self._before), inner.register_step_post_hook(self._after))
        for layer in self._layers:
            _SCHEDULES[layer] = weakref.ref(self)

    def remove(self) -> None:
        """Take the hooks from the optimizer: radius and choices stay as they are."""
        for handle in self._handles:
            handle.remove()
        for layer in self._layers:
            _SCHEDULES.pop(layer, None)

    def _say_what_is_not_held(self, optimizer: torch.optim.Optimizer) -> None:
        missing, learning = not_held(optimizer, self._named)
        if missing:
            warnings.warn(
                f"{len(missing)} of {learning} SSN logits are not in this optimizer, such as {missing[0]!r}; unless "
                "another one trains them, make the optimizer after switch",
                stacklevel=3,
            )

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Prepare gradients; those that a closure computes (LBFGS, Lightning) after each call of it."""
        self._stepping = True
        closures = [each for each in (*args, *kwargs.values()) if callable(each) and each is not optimizer]
        if not closures:
            self._prepare(optimizer)
            return None
        preparing = {id(each): self._preparing(each, optimizer) for each in closures}
        return (
            tuple(preparing.get(id(each), each) for each in args),
            {key: preparing.get(id(each), each) for key, each in kwargs.items()},
        )

    def _preparing(self, closure: Callable[[], Any], optimizer: Any) -> Callable[[], Any]:
        def prepared() -> Any:
            loss = closure()
            self._prepare(optimizer)
            return loss

        return prepared

    def _prepare(self, optimizer: Any) -> None:
        """Clip the logits' gradients as `torch.nn.utils.clip_grad_norm_` does, and take away those of final choices.

        Fused optimizers get gradients that a `GradScaler` has scaled: what is clipped is what they stand for.
        """
        for logits in self._final_logits():
            for p in logits.parameters():
                p.grad = None  # with a gradient of zero, momentum and decay would move them
        groups = len(optimizer.param_groups)
        if groups != self._held[0]:  # also after add_param_group
            self._held = (groups, of(optimizer, self._layers))
        parameters = [p for logits in self._held[1] for p in logits.parameters() if p.grad is not None]
        if self._clip_norm is None or not parameters:
            return
        norm = norm_of_gradients(parameters)
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None:
            norm = norm / scale.to(norm.device)
        clip_grads_with_norm_(parameters, self._clip_norm, norm)

    def _final_logits(self) -> list[Logits]:
        """The logits whose choice is final; flags are read only where somebody wrote them."""
        each = [(layer, layer._buffers[f"{moment}_fixed"], moment) for layer in self._layers for moment in _MOMENTS]
        seen = [(fixed, fixed._version) for _, fixed, _ in each]
        if not _same(seen, self._final[0]):
            final = [Logits(layer, f"{moment}_weight") for layer, fixed, moment in each if fixed]
            self._final = (seen, final)
        return self._final[1]

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._stepping:  # of a class whose step calls that of its base, which has hooks too
            return
        self._stepping = False
        found_inf = getattr(optimizer, "found_inf", None)  # of a GradScaler, with a fused optimizer
        if found_inf is not None and float(found_inf):
            return
        learning = [layer for layer in self._layers if trainable([layer])]
        if not learning:
            return
        before = self._current(learning)
        step = before + 1
        radius = self._shape(step)
        reached = radius == 1 and self._shape(before) < 1
        if radius != self._shape(before) or self._rewritten(learning) or learning != self._learning:
            for layer in learning:
                layer.set_radius(radius)
        self._step, self._learning = step, learning
        self._written.update({layer: (layer.radius, layer.radius._version) for layer in learning})
        if step % self._every == 0 or reached or step == self._shape.steps:
            for layer in learning:
                layer.harden()
        if step == self._shape.steps:
            self._say_what_is_open(learning)

    def _say_what_is_open(self, learning: list[Any]) -> None:
        """Name the layers that cannot become one-hot: no radius breaks a tie."""
        with torch.no_grad():
            found = [
                name
                for name, layer in self._named.items()
                if layer in learning and min(map(torch.max, layer.importance())) < 1
            ]
        if found:
            more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            warnings.warn(
                f"the schedule has ended and {len(found)} of {len(learning)} SSN layers have not chosen: "
                f"{', '.join(islice(found, _NAMED))}{more}; largest logits are equal, without a gradient or with steps "
                "that are below their precision",
                stacklevel=4,
            )

    def _current(self, learning: list[Any]) -> int:
        """The step of which the layers have the radius.

        It is read only where somebody else wrote it, for that waits for the device. Under DistributedDataParallel
        every forward pass does, by sending buffers, unless `broadcast_buffers` is false.
        """
        if not self._rewritten(learning):
            return self._step
        first = learning[0].radius.device
        radii: list[float] = torch.cat([layer.radius.detach().to(first) for layer in learning]).tolist()
        # Of layers of several trainings the one that has come least far counts, so that none misses a part.
        least = min(range(len(radii)), key=radii.__getitem__)
        dtype = learning[least].radius.dtype
        if radii[least] == rounded(self._shape(self._step), dtype):
            return self._step
        return self._shape.step(radii[least], dtype)

    def _rewritten(self, learning: list[Any]) -> bool:
        """Whether a radius is not what this schedule wrote last, or nothing was written yet."""
        known = [layer for layer in learning if layer in self._written]
        found = [(layer.radius, layer.radius._version) for layer in known]
        return not self._written or not _same(found, [self._written[layer] for layer in known])


#: The schedule of a layer, for as long as an optimizer holds it.
_SCHEDULES: weakref.WeakKeyDictionary[nn.Module, weakref.ref[SparseSchedule]] = weakref.WeakKeyDictionary()


def _check_free(layers: dict[str, nn.Module]) -> None:
    """Raise `InputError` for a layer that has a schedule."""

    def taken() -> str | None:
        return next((name for name, layer in layers.items() if _SCHEDULES.get(layer, lambda: None)() is not None), None)

    if taken() is not None:
        gc.collect()  # an optimizer that nobody has any more may wait for that, with its schedule
    if (name := taken()) is not None:
        raise InputError(f"layer {name!r} has a SparseSchedule already; call its remove() first")


def _same(found: list[tuple[Tensor, int]], seen: list[tuple[Tensor, int]]) -> bool:
    """Whether these are the same tensors, and not written since."""
    return len(found) == len(seen) and all(
        ours is theirs and version == before for (ours, version), (theirs, before) in zip(found, seen, strict=True)
    )
