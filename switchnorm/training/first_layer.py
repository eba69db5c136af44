"""Where numbers that are not finite come from: the first layer, in the order of the forward pass, that has one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils._pytree import tree_leaves

from switchnorm.tasks.task import Task


def magnitude(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of the magnitudes in tensors of floating point, (): finite where all of them are, whatever the device.

    A sum that overflows counts as not finite: numbers as large as that are no training either. Of a tensor that is
    spread over processes only the share of this one is counted.
    """
    here = (getattr(t, "to_local", lambda t=t: t)() for t in tensors)
    counted = [t for t in here if t.is_floating_point() and t.numel()]
    return get_total_norm(counted, norm_type=1)


def is_finite(*tensors: Tensor) -> bool:
    """Whether all of the numbers are; waits for the device."""
    return bool(magnitude(tensors).isfinite())


def bad_batch(batch: Any) -> bool:
    """Whether numbers of a batch, such as its pictures, are not finite."""
    return not is_finite(*_tensors(batch))


def bad_gradients(model: nn.Module) -> list[str]:
    """The parameters with a gradient that is not finite, by name."""
    return [name for name, p in model.named_parameters() if p.grad is not None and not is_finite(p.grad)]


@torch.no_grad()
def first_layer(task: Task, batch: Any, context: Callable[[], Any], gradients: Iterable[str] = ()) -> str:
    """What is not finite first, in words, found by another forward pass over a batch; it moves running statistics.

    Args:
        task: with the network.
        batch: pictures and labels, on the device; None for none.
        context: of forward passes, for mixed precision.
        gradients: parameters of the task whose gradient was not finite, by name.

    Returns:
        "the output of layer 'conv1'", "'bn1.running_var'", "the gradient of 'fc.weight'"; "" where all is finite.
    """
    order: list[str] = []
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            order.append(name)
            if not found:
                found.extend(_own(layer, name))
            if not found and not is_finite(*_tensors(output)):
                found.append(f"the output of layer {name!r}")

        return hook

    layers = {name: layer for name, layer in task.model.named_modules() if name}
    handles = [layer.register_forward_hook(look(name)) for name, layer in layers.items()]
    try:
        # What a network of somebody else makes of such numbers is its own matter.
        with contextlib.suppress(Exception), context():
            if batch is not None:
                task.forward_pass(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not found:  # layers that are not called as modules, as in a compiled network
        found.extend(key for key, value in task.model.state_dict().items() if not is_finite(value))
    if not found:
        place = {name: number for number, name in reversed([*enumerate(order)])}
        names = [name.removeprefix("model.") for name in gradients]
        names.sort(key=lambda name: place.get(name.rpartition(".")[0], len(order)))
        found.extend(f"the gradient of {name!r}" for name in names)
    return found[0] if found else ""


def _own(layer: nn.Module, name: str) -> list[str]:
    """The parameters and buffers of a layer itself that are not finite."""
    own = (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
    return [repr(f"{name}.{key}") for key, value in own if not is_finite(value)]


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
