"""Whether a normalization of somebody's own computes what its kind does: looked at by values."""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn

from switchnorm.layers import kind_of
from switchnorm.layers.evaluated import Evaluated
from switchnorm.surgery.folding.forms import form
from switchnorm.surgery.folding.places import affine
from switchnorm.surgery.kinds import tail_of

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_known(norm: nn.Module) -> bool:
    """Whether the class of a normalization is one of which it is known what it computes."""
    kind = kind_of(norm)
    if kind is None or "forward" in vars(norm):
        return False
    if kind.frozen:  # found out by values before
        return not tail_of(norm)
    if kind.base is not type(norm):
        return False
    return type(norm).__module__.startswith("torch.nn.") or (kind.norm is not None and kind.norm.evaluates is not None)


@torch.no_grad()
def agrees(norm: nn.Module, found: Evaluated) -> bool:
    """Whether a normalization computes in evaluation what was found, followed by the activation it ends with.

    Args:
        norm: any normalization; its hooks are not called.
        found: what it is expected to compute.
    """
    dims = 4 if found.dims is None else next((each for each in found.dims if each > 2), 2)
    with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]):  # The code of others may raise anything.
        twin = _plain_copy(norm)
        for scale, sides in ((1.0, (3, 4, 5)), (40.0, (5, 3, 2))):
            shape = (2, found.channels, *sides[: dims - 2])
            x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).mul(0.7).cos().mul(scale).view(shape)
            if not torch.allclose(twin.forward(x.clone()), _expected(twin, found, x), 1e-6, 1e-6):
                return False
        return True
    return False


def _plain_copy(norm: nn.Module) -> nn.Module:
    """A layer in float64, in evaluation mode and without hooks."""
    twin = copy.deepcopy(norm).to("cpu", torch.float64).eval()
    for module in twin.modules():
        vars(module).update({name: OrderedDict() for name in _HOOKS})
    return twin


def _expected(twin: nn.Module, found: Evaluated, x: Tensor) -> Tensor:
    y = x
    if found.constant is not None:
        y = affine(found.constant, found.dims)(y)
    if found.mixture is not None:
        y = form(found.mixture, False, None).module.double()(y)
    y = y.relu() if found.ends is not None else y
    for name in tail_of(twin):
        y = twin.get_submodule(name)(y)
    return y
