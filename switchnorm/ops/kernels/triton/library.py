"""The kernels as operators of PyTorch, to be traced with fake tensors and checked by torch.library.opcheck.

They have no gradient of their own: `switchnorm.ops.autograd` pairs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from switchnorm.ops.kernels.triton import fused, passes
from switchnorm.ops.kernels.triton import weight as weights
from switchnorm.ops.kernels.triton.launch import INTERPRETING
from switchnorm.ops.kernels.triton.mixture import mixture
from switchnorm.ops.kernels.triton.passes import tables

_LIBRARY = torch.library.Library("switchnorm", "FRAGMENT")

_MIXTURE = "Tensor? mean_importance, Tensor? var_importance, Tensor? weight, Tensor? bias"
_RUNNING = "Tensor? running_mean, Tensor? running_var"


def _operator(schema: str, launches: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """Define an operator, what it does, and what its results look like."""
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, launches, "CUDA")
    if INTERPRETING:
        _LIBRARY.impl(name, launches, "CPU")
    torch.library.register_fake(f"switchnorm::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.switchnorm, name).default


def _maps_table(x: Tensor) -> Tensor:
    return tables(x, 2 * x.shape[0] * x.shape[1]).view(2, *x.shape[:2])


def _fake_normalize(
    x: Tensor,
    mean_importance: Tensor | None,
    var_importance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    statistics: Sequence[str],
    eps: float,
    ghost: int | None,
    unbiased: bool,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    mix = mixture(x, statistics, running_mean, ghost, unbiased)
    samples, channels = x.shape[:2]
    return (
        torch.empty_like(x),
        tables(x, mix.saved(samples, channels)),
        tables(x, 2 * channels if mix.pools_batch else 0).view(2 if mix.pools_batch else 0, channels),
    )


def _fake_gradients(dy: Tensor, x: Tensor, y: Tensor | None, saved: Tensor, *given: Any) -> list[Tensor]:
    return [torch.empty_like(t) for t in (x, *given[:4], y) if t is not None]


moments = _operator("triton_moments(Tensor x) -> Tensor", passes.moments, _maps_table)
affine = _operator(
    "triton_affine(Tensor x, Tensor centre, Tensor scale, Tensor? shift) -> Tensor",
    passes.affine,
    lambda x, centre, scale, shift: torch.empty_like(x),
)
sums = _operator(
    "triton_sums(Tensor dy, Tensor x, Tensor centre) -> Tensor",
    passes.sums,
    lambda dy, x, centre: _maps_table(x),
)
combine = _operator(
    "triton_combine(Tensor dy, Tensor a, Tensor x, Tensor centre, Tensor b, Tensor c) -> Tensor",
    passes.combine,
    lambda dy, a, x, centre, b, c: torch.empty_like(x),
)
normalize = _operator(
    f"triton_normalize(Tensor x, {_MIXTURE}, Tensor? residual, {_RUNNING}, str[] statistics, float eps, int? ghost, "
    "bool unbiased, bool relu) -> (Tensor, Tensor, Tensor)",
    fused.normalize,
    _fake_normalize,
)
gradients = _operator(
    f"triton_gradients(Tensor dy, Tensor x, Tensor? y, Tensor saved, {_MIXTURE}, {_RUNNING}, str[] statistics, "
    "int? ghost, bool unbiased, bool relu) -> Tensor[]",
    fused.gradients,
    _fake_gradients,
)
standardize = _operator(
    "triton_standardize(Tensor weight, float eps) -> (Tensor, Tensor, Tensor)",
    weights.launch_standardize,
    weights.fake_standardize,
)
standardize_backward = _operator(
    "triton_standardize_backward(Tensor dy, Tensor weight, Tensor mean, Tensor std, float eps) -> Tensor",
    weights.launch_standardize_backward,
    lambda dy, weight, mean, std, eps: torch.empty_like(weight),
)
