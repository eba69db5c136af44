"""What takes the place of a folded normalization: what is left of it, and the activation that it ended with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from switchnorm.layers.evaluated import Constant
from switchnorm.surgery.folding.modules import NO_EPS
from switchnorm.surgery.kinds import apply_tail, tail_of

_BATCH_NORM: dict[tuple[int, ...], type[nn.Module]] = {
    (2, 3): nn.BatchNorm1d,
    (2,): nn.BatchNorm1d,
    (3,): nn.BatchNorm1d,
    (4,): nn.BatchNorm2d,
    (5,): nn.BatchNorm3d,
}


class Ended(nn.Module):
    """activation(norm(x) + residual), as this library's layers are called.

    Args:
        norm: what is left of the normalization; None for nothing.
        activation: "relu" or None, where a call says nothing else.
    """

    def __init__(self, norm: nn.Module | None, activation: str | None) -> None:
        super().__init__()
        self.norm = nn.Identity() if norm is None else norm
        self.activation = activation

    def forward(self, x: Tensor, residual: Tensor | None = None, activation: str | None = None) -> Tensor:
        """Of x (N, C, *S) and a residual of its shape."""
        y: Tensor = self.norm(x)
        if residual is not None:
            y = y + residual
        return y if (activation or self.activation) is None else y.relu_()

    def extra_repr(self) -> str:
        """The activation."""
        return "" if self.activation is None else f"activation={self.activation!r}"


def affine(constant: Constant, dims: tuple[int, ...] | None) -> nn.Module:
    """A map of the channels as one operation: torch's Batch Normalization, which every runtime knows.

    Args:
        constant: the map.
        dims: how many dimensions its input may have.
    """
    cls: Any = _BATCH_NORM.get(dims or (), AnyBatchNorm)
    layer = cls(len(constant.scale), eps=NO_EPS).double().requires_grad_(False)
    for name, value in (("running_mean", constant.centre), ("weight", constant.scale), ("bias", constant.shift)):
        getattr(layer, name).copy_(value)
    return layer.eval()


class AnyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """torch's Batch Normalization of inputs of any number of dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def ended(norm: nn.Module, rest: nn.Module | None, activation: str | None, *, alone: bool) -> nn.Module:
    """What takes the place of a normalization.

    Args:
        norm: the normalization, of which an activation that others put behind it is taken over.
        rest: what is left of what it computes.
        activation: what it ends with by itself.
        alone: whether it is sure to be called with its input alone.
    """
    parts = [] if rest is None else [rest]
    if not alone:
        parts = [Ended(rest, activation)]
    elif activation is not None:
        # Of what nobody else has: the output of the layer before, or of what is left.
        parts.append(nn.ReLU(inplace=True))
    # A dropout does nothing in evaluation, but what it is may look at the mode by itself.
    tail = [norm.get_submodule(name) for name in tail_of(norm)]
    parts += [module for module in tail if not isinstance(module, (nn.Identity, nn.Dropout))]
    if not parts:
        return nn.Identity()
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def foreign_hooks(norm: nn.Module) -> bool:
    """Whether somebody's hooks see what a normalization computes; what `switch` put behind it is none."""
    hooks = [*norm._forward_pre_hooks.values(), *norm._backward_hooks.values(), *norm._backward_pre_hooks.values()]
    return bool(hooks) or any(hook is not apply_tail for hook in norm._forward_hooks.values())


def placed(rest: nn.Module, norm: nn.Module, model: nn.Module) -> nn.Module:
    """What is left of a normalization, with its dtype and device, or those of the model where it has no tensors.

    It also tells its channels, for forward passes that ask the layer.
    """
    tensors = (*norm.parameters(), *norm.buffers(), *model.parameters(), *model.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    for name in ("num_features", "num_channels"):
        if isinstance(getattr(norm, name, None), int) and not hasattr(rest, name):
            setattr(rest, name, getattr(norm, name))
    return rest.to(like.device, like.dtype)
