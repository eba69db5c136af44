"""Launching kernels, and the counters by which programs of one launch find out who is last."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from switchnorm.ops.kernels.triton.plan import PROGRAMS, TILES

#: Whether kernels run in Triton's interpreter, on the CPU; decided by TRITON_INTERPRET=1 before the first import.
INTERPRETING: bool = triton.knobs.runtime.interpret

_ACCUMULATED = {torch.float64: tl.float64}

#: One per tile of channels, or, where programs are so few that maps go to several, one per tile and sample.
_COUNTERS = max(TILES, PROGRAMS)

_counters: dict[tuple[torch.device, int], Tensor] = {}


def launch(kernel: Any, programs: tuple[int, ...], x: Tensor, *arguments: Any, warps: int, **constants: Any) -> None:
    """Run a kernel on x's device; every launch of this package goes through here.

    Args:
        kernel: what `triton.jit` made.
        programs: how many, as Triton's grid.
        x: decides the device, and the type in which the kernel accumulates.
        arguments, constants: the kernel's, apart from ACC.
        warps: of a program.
    """
    elsewhere = x.is_cuda and x.get_device() != torch.cuda.current_device()
    with torch.cuda.device(x.device) if elsewhere else contextlib.nullcontext():
        # Contraction to fused multiply-adds, which another version of Triton may not have as its default.
        kernel[programs](
            *arguments,
            ACC=_ACCUMULATED.get(x.dtype, tl.float32),
            num_warps=warps,
            enable_fp_fusion=True,
            **constants,
        )


def counters(x: Tensor) -> Tensor:
    """Zeros, as many as a launch can need, which every kernel leaves as zeros.

    One buffer per stream, where launches follow each other. A graph that is being captured gets its own, since it may
    be replayed on any stream, and clears it with every replay.
    """
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return x.new_zeros(_COUNTERS, dtype=torch.int32)
    key = x.device, torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
    found = _counters.get(key)
    if found is None:
        found = _counters[key] = x.new_zeros(_COUNTERS, dtype=torch.int32)
    return found
