"""Both directions with the rule inside: one launch where programs can hold what they need, else two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from switchnorm.ops.kernels.triton.affine import normalize_kernel
from switchnorm.ops.kernels.triton.combine import gradient_kernel
from switchnorm.ops.kernels.triton.launch import counters, launch
from switchnorm.ops.kernels.triton.mixture import mixture
from switchnorm.ops.kernels.triton.moments import moments_kernel
from switchnorm.ops.kernels.triton.passes import blocks, geometry, merging, tables
from switchnorm.ops.kernels.triton.plan import WARPS, Plan, plan
from switchnorm.ops.kernels.triton.resident import resident_gradient_kernel, resident_normalize_kernel
from switchnorm.ops.kernels.triton.sums import gradient_sums_kernel


def normalize(
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
    """y, what the backward pass needs, and the batch's mean and variance (2, C), or (0, C) where not computed."""
    cut = plan(x)
    mix = mixture(x, statistics, running_mean, ghost, unbiased)
    y = torch.empty_like(x)
    saved = tables(x, mix.saved(cut.samples, cut.channels))
    batch = tables(x, 2 * cut.channels if mix.pools_batch else 0).view(-1, cut.channels)
    given = (running_mean, running_var, mean_importance, var_importance, weight, bias)
    rule = {**mix.places(), "UNBIASED": mix.unbiased, "FLAT": mix.flat}
    block = mix.resident(cut, False, False, saved.itemsize)
    if block is not None:
        launch(
            resident_normalize_kernel,
            (-(-cut.channels // block[1]) * -(-cut.samples // block[0]),),
            x,
            x,
            y,
            residual,
            saved,
            batch,
            *given,
            cut.samples,
            cut.channels,
            cut.size,
            warps=_warps(block),
            WIDTH=mix.width,
            EPS=eps,
            RELU=relu,
            **_resident(cut, block),
            **rule,
        )
        return y, saved, batch
    slots = 2 * cut.samples * cut.pieces * cut.channels
    scratch = tables(x, slots + 2 * cut.samples * cut.tiles)
    joined = cut.arrivals if mix.pools_batch else cut.pieces
    launch(
        moments_kernel,
        (cut.programs,),
        x,
        x,
        saved,
        scratch,
        batch,
        counters(x) if joined > 1 else None,
        *geometry(cut),
        mix.part,
        mix.width,
        warps=WARPS,
        POOLED=mix.pooled(cut),
        LAYER=mix.layer,
        BATCH=mix.batch if mix.pools_batch else -1,
        GROUP=mix.group,
        UNBIASED=mix.unbiased,
        FLAT=mix.flat,
        COUNTED=joined > 1,
        **blocks(cut),
        **merging(cut, mix.part if mix.pools_batch else cut.own),
    )
    launch(
        normalize_kernel,
        (cut.programs,),
        x,
        x,
        y,
        residual,
        saved,
        scratch,
        *given,
        *geometry(cut),
        mix.part,
        mix.width,
        warps=WARPS,
        EPS=eps,
        RELU=relu,
        BLOCK_T=cut.block_t,
        BLOCK_W=mix.block_w(cut),
        **blocks(cut),
        **rule,
    )
    return y, saved, batch


def gradients(
    dy: Tensor,
    x: Tensor,
    y: Tensor | None,
    saved: Tensor,
    mean_importance: Tensor | None,
    var_importance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    statistics: Sequence[str],
    ghost: int | None,
    unbiased: bool,
    relu: bool,
) -> list[Tensor]:
    """Gradients of x, of whichever of the importance, weight and bias are given, and, where y is, of the residual."""
    cut = plan(x)
    mix = mixture(x, statistics, running_mean, ghost, unbiased)
    dx = torch.empty_like(x)
    dz = None if y is None else torch.empty_like(x)
    parameters = (mean_importance, var_importance, weight, bias)
    of_parameters = [None if t is None else torch.empty_like(t) for t in parameters]
    found = [t for t in (dx, *of_parameters, dz) if t is not None]
    rule = {**mix.places(), "UNBIASED": mix.unbiased}
    mixed = mean_importance is not None
    block = mix.resident(cut, weight is not None or bias is not None, mixed, saved.itemsize)
    if block is not None:
        launch(
            resident_gradient_kernel,
            (-(-cut.channels // block[1]) * -(-cut.samples // block[0]),),
            x,
            dy,
            x,
            y,
            dx,
            dz,
            saved,
            running_mean,
            running_var,
            *parameters,
            *of_parameters,
            cut.samples,
            cut.channels,
            cut.size,
            warps=_warps(block),
            WIDTH=mix.width,
            K=len(statistics),
            FLAT=mix.flat,
            RELU=relu,
            **_resident(cut, block),
            **rule,
        )
        return found
    maps = cut.samples * cut.channels
    of_parts = 2 * cut.samples // mix.part * cut.channels
    scratch = tables(x, 2 * maps * (cut.pieces + 1) + (2 * cut.samples + 8) * cut.tiles + of_parts)
    launch(
        gradient_sums_kernel,
        (cut.programs,),
        x,
        dy,
        x,
        y,
        dz,
        saved,
        scratch,
        counters(x) if cut.arrivals > 1 else None,
        running_mean,
        running_var,
        weight,
        bias,
        *of_parameters[2:],
        *geometry(cut),
        mix.part,
        mix.width,
        warps=WARPS,
        MIXED=mixed,
        RELU=relu,
        COUNTED=cut.arrivals > 1,
        **blocks(cut),
        **merging(cut, mix.part),
        **rule,
    )
    launch(
        gradient_kernel,
        (cut.programs,),
        x,
        dy if dz is None else dz,
        x,
        dx,
        saved,
        scratch,
        running_mean,
        *parameters,
        *of_parameters[:2],
        *geometry(cut),
        mix.part,
        mix.width,
        warps=WARPS,
        K=len(statistics),
        FLAT=mix.flat,
        RELU=relu and dz is None,
        BLOCK_T=cut.block_t,
        BLOCK_W=mix.block_w(cut),
        **blocks(cut),
        **rule,
    )
    return found


def _resident(cut: Plan, block: tuple[int, int, int]) -> dict[str, Any]:
    names = ("BLOCK_N", "BLOCK_C", "BLOCK_L")
    return {"CHANNELS_LAST": cut.channels_last, "ALIGN": cut.align, **dict(zip(names, block, strict=True))}


def _warps(block: tuple[int, int, int]) -> int:
    """At least 8 elements a thread."""
    return max(1, min(WARPS, math.prod(block) // 256))
