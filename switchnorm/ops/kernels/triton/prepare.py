"""Launches, prepared: what kernels are told of x, of how it is cut, and of the rule.

Kernels are told what they name among their arguments.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from switchnorm.ops.kernels.triton.bundles import Blocks, Merge
from switchnorm.ops.kernels.triton.cut import MERGED, WARPS, Plan, power_above
from switchnorm.ops.kernels.triton.launch import Launch
from switchnorm.ops.kernels.triton.mixture import Mixture


def over_plan(kernel: Any, cut: Plan, mix: Mixture, dtype: torch.dtype, **constants: Any) -> Launch:
    """A launch over all that a plan cuts x, of that dtype, into."""
    # Of whole maps nothing accumulates.
    folds = min(cut.block_l, 32) if cut.channels_last else max(cut.block_l // 8, 1)
    fold = cut.block_l if cut.whole else folds
    samples = min(power_above(mix.part), max(1, MERGED // cut.block_c))
    block = cut.block_n, cut.block_c, cut.block_l
    constants = {
        "BLOCK": Blocks(*block, cut.channels_last, cut.align, cut.whole, cut.stages, cut.shifted),
        "MERGE": Merge(fold, cut.merge_n(cut.own), samples, cut.block_p),
        "POOL": mix.pool(cut),
        "POOLED": mix.pooled(cut),
        **constants,
    }
    return _launch(kernel, cut, mix, dtype, constants, cut.programs, cut.warps, cut.registers)


def holding_all(
    kernel: Any, cut: Plan, mix: Mixture, block: tuple[int, int, int], dtype: torch.dtype, **constants: Any
) -> Launch:
    """A launch of programs that hold all that depends on each other, in a block (N, C, L): see `Mixture.resident`."""
    programs = -(-cut.channels // block[1]) * -(-cut.samples // block[0])
    # At least 8 elements a thread.
    warps = max(1, min(WARPS, math.prod(block) // 256))
    blocks = Blocks(*block, cut.channels_last, 1 if cut.shifted else cut.align)
    constants = {"BLOCK": blocks, "POOL": mix.held(), **constants}
    return _launch(kernel, cut, mix, dtype, constants, programs, warps, None)


def _launch(
    kernel: Any,
    cut: Plan,
    mix: Mixture,
    dtype: torch.dtype,
    constants: dict[str, Any],
    programs: int,
    warps: int,
    registers: int | None,
) -> Launch:
    constants = {"RULE": mix.rule, **constants}
    names = ("N", "C", "L", "P", "PIECE", "SAMPLES", "PART", "WIDTH")
    values = (cut.samples, cut.channels, cut.size, cut.pieces, cut.piece, cut.own, mix.part, mix.width)
    numbers = tuple(value for name, value in zip(names, values, strict=True) if name in kernel.arg_names)
    told = {name: constants[name] for name in kernel.arg_names if name in constants}
    return Launch(kernel, programs, dtype, numbers, warps=warps, registers=registers, **told)
