"""Layers that other libraries must not fold into their neighbours or rebuild, and how they say so.

Fusers know a Batch Normalization by its `running_var`, and a convolution by its `weight`. Layers that have these and
compute something else let them go as far as the first step that would be wrong.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from switchnorm.errors import InputError
from switchnorm.ops.kernels.choice import needs_plain_operations

_INSTEAD = "evaluate the network as it is; switchnorm.fuse is the fusion that is exact"


class Eps(float):
    """The `eps` of a layer that cannot be folded: a number like any, save beside the layer's own running variance.

    To fold a Batch Normalization is to divide by sqrt(running_var + eps). An operation on tensors or NumPy arrays that
    is given this number together with the layer's running variance, a part of it or an equal copy in another shape or
    dtype, raises `InputError`. All others see the number. Copies and pickles are floats.

    Not seen is what reads no `eps` from the layer (folding a state dict by a constant), and what computes with single
    numbers.
    """

    layer: Any

    def __new__(cls, value: float, layer: nn.Module) -> Eps:
        """The number as read from `layer`."""
        made = super().__new__(cls, value)
        made.layer = layer
        return made

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        operands = [*args, *named.values()]
        for eps in operands:
            if isinstance(eps, cls):
                eps._check(operands)
        plain = [float(arg) if isinstance(arg, cls) else arg for arg in args]
        return func(*plain, **{name: float(arg) if isinstance(arg, cls) else arg for name, arg in named.items()})

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        self._check([torch.as_tensor(each) for each in inputs if hasattr(each, "__array_interface__")])
        plain = [float(each) if isinstance(each, Eps) else each for each in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return float, (float(self),)

    def _check(self, operands: Sequence[Any]) -> None:
        """Raise `InputError` if the layer's running variance is among the operands."""
        var = self.layer.running_var
        if var is not None and any(isinstance(each, Tensor) and _stands_for(each, var) for each in operands):
            raise InputError(f"{_unfoldable(self.layer)} (to compute with the plain number, take float(layer.eps))")


def _stands_for(t: Tensor, var: Tensor) -> bool:
    """Whether `t` is a running variance (C,), a part of it, or a copy."""
    if t.dim() == 0 or t is var:
        return t is var
    if needs_plain_operations(t, var):  # values cannot be looked at
        return t._base is var
    if t.is_meta or var.is_meta:
        return t.numel() == var.numel()
    if t.layout is not torch.strided:
        return False
    if t.device == var.device and t.untyped_storage().data_ptr() == var.untyped_storage().data_ptr():
        return True
    return t.numel() == var.numel() and torch.equal(t.detach().flatten(), var.to(t.device, t.dtype).flatten())


def guarded_eps(folds: Callable[[Any, CodeType], bool] | None = None) -> Any:
    """The attribute `eps` of a class whose layers cannot be folded: a property that reads as `Eps`.

    The plain number is kept as `eps` in the layer's `__dict__`, where pickles and torch's `extra_repr` have it, and as
    `_eps`: the compilers of torch 2.8 to 2.11 take `layer.__dict__["eps"]` for the property, which would read itself.

    Args:
        folds: tells, of a layer and the function that reads, whether it may have the plain number; None for never.
    """

    def read(layer: Any) -> float:
        value = plain_eps(layer)
        if torch.compiler.is_compiling() or (folds is not None and folds(layer, sys._getframe(1).f_code)):
            return value
        return Eps(value, layer)

    def write(layer: Any, value: float) -> None:
        layer.__dict__["eps"] = layer.__dict__["_eps"] = float(value)

    return property(read, write)


def plain_eps(layer: nn.Module) -> float:
    """The `eps` of a layer of this library as a plain number, for its own forward pass."""
    values = layer.__dict__
    # A pickle of an earlier version has no `_eps`.
    value: float = values["_eps"] if torch.compiler.is_compiling() and "_eps" in values else values["eps"]
    return value


class Unfoldable:
    """A layer that has no place in what timm makes of a network for inference.

    `timm.utils.reparameterize_model` calls this method wherever it is defined, also where the modules around it take
    the layer for one that they have folded already.
    """

    def reparameterize(self) -> None:
        """Raise `InputError`."""
        raise InputError(_unfoldable(self))


# What starts the name of a function that moves a normalization or a branch into the weights of a convolution.
_FOLDS = re.compile(r"_*(fus(e|ing)|fold(?!er)|merg|absorb|repar|re_param|switch_to_deploy)", re.IGNORECASE)
_ROOTS = frozenset({"sqrt", "rsqrt", "pow"})


@functools.lru_cache(4096)
def is_folder(code: CodeType, signs: frozenset[str] = _ROOTS) -> bool:
    """Whether a function folds layers into each other, by its name or by what it reads.

    Its name begins with fuse, fold, merge, absorb or reparameterize, or it reads `running_var` and one of the `signs`.
    """
    names = code.co_names
    return bool(_FOLDS.match(code.co_name)) or ("running_var" in names and not signs.isdisjoint(names))


def check_reader(layer: nn.Module, code: CodeType) -> None:
    """Raise `InputError` if the function that reads the weight of `layer` is about to fold something into it.

    Where the layer is in training, only the name of the function counts, for what loads or initialises weights may read
    running variances too. Not seen are functions under other names that are given the weight by their caller, and
    those that read parameters in other ways (`named_parameters`, a state dict, parametrized weights).
    """
    signs: frozenset[str] = frozenset() if layer.training else _ROOTS | {"eps"}
    if is_folder(code, signs):
        raise InputError(
            f"{_name(layer)} standardizes its weight, so that {code.co_name} cannot fold another layer into it: "
            f"{_INSTEAD} (for other purposes, read layer.get_parameter('weight'))"
        )


def ends_with_activation(layer: Any) -> bool:
    """Whether a batch normalization of this library goes on with its own `activation`, or with timm's `act`."""
    act = layer._modules.get("act")
    return layer.activation is not None or not (act is None or isinstance(act, nn.Identity))


def folds_as_batch_norm(layer: Any, reader: CodeType) -> bool:
    """For `guarded_eps`: whether nothing is lost if the reader folds a batch normalization."""
    # timm's own functions take over its act; those that fold leave it behind.
    return layer.activation is None and not (ends_with_activation(layer) and is_folder(reader))


def check_rebuilt(layer: Any) -> None:
    """Raise `InputError` if the caller's caller has made another Batch Normalization of `layer` without its ending.

    Converters such as torch.nn.SyncBatchNorm.convert_sync_batchnorm make a layer with the same tensors, and then ask
    the old one for its children. What follows the normalization is then lost, unless the new layer applies `act`.

    Args:
        layer: a batch normalization that ends with an activation, and is asked for its children.
    """
    frame = sys._getframe(2)
    own = [t for t in (layer.weight, layer.bias, layer.running_mean) if t is not None]
    for other in frame.f_locals.values():
        if not isinstance(other, _BatchNorm) or other is layer:
            continue
        shared = any(t is theirs for t in own for theirs in (other.weight, other.bias, other.running_mean))
        if shared and "act" not in type(other).forward.__code__.co_names:
            raise InputError(
                f"{_name(layer)} ends with an activation, which {frame.f_code.co_name} loses in making it "
                f"{_name(other)}; call switchnorm.sync(model) to synchronise it, or leave it as it is"
            )


def _unfoldable(layer: object) -> str:
    return f"{_name(layer)} cannot be folded into its neighbours without changing what the network computes: {_INSTEAD}"


def _name(layer: object) -> str:
    return type(layer).__name__
