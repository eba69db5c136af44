"""`python -m tests.ops.kernels.guarded [FOLDER]`: normalizations of tensors between pages that must not be touched.

A read or write outside of a tensor ends the process by a signal. It prints how many normalizations there were. FOLDER
holds other builds of the library.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import switchnorm
from switchnorm.ops.kernels.base import Operands
from switchnorm.ops.kernels.native import build
from switchnorm.ops.rule import Rule
from tests.ops.kernels.contracts import native

_held: list[mmap.mmap] = []
_libc = ctypes.CDLL(None, use_errno=True)


def guarded(t: Tensor, at_end: bool) -> Tensor:
    """A copy of t that ends right before, or begins right after, a page without access."""
    page, size = mmap.PAGESIZE, max(1, t.numel()) * t.element_size()
    pages = -(-size // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    _held.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    offset = page + (pages * page - size if at_end else 0)
    flat = torch.frombuffer(memory, dtype=t.dtype, count=t.numel(), offset=offset)
    copy = flat.as_strided(t.shape, t.stride())
    copy.copy_(t)
    for guard in (start, start + (pages + 1) * page):
        assert _libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    return copy


def main() -> int:
    """Forward and backward passes, inputs and outputs between guards."""
    if len(sys.argv) > 1:
        build.BUILT = Path(sys.argv[1])
    path = native()
    done = 0
    shapes = [(2, 3, 1, 3), (2, 13, 7, 7), (3, 8, 5, 1), (1, 40, 33, 2), (1, 6, 70, 70)]
    empty_like = torch.empty_like
    for shape, at_end, last, dtype in itertools.product(
        shapes, (True, False), (True, False), (torch.float32, torch.bfloat16, torch.float64)
    ):
        layout = torch.channels_last if last else torch.contiguous_format
        x, residual, dy = (
            guarded(torch.randn(shape, dtype=dtype).contiguous(memory_format=layout), at_end) for _ in range(3)
        )
        layer: Any = switchnorm.SwitchNorm2d(shape[1])
        layer._parameters = {k: nn.Parameter(guarded(p.detach(), at_end)) for k, p in layer._parameters.items()}
        layer._buffers = {k: guarded(b, at_end) for k, b in layer._buffers.items()}
        torch.empty_like = lambda t, at_end=at_end, **_: guarded(empty_like(t), at_end)
        for added in (None, residual):
            leaves = [x.requires_grad_(), *layer.parameters()]
            y = layer(x, added, "relu")
            assert type(y.grad_fn).__name__ == "_SwitchBackward"
            assert all(g.isfinite().all() for g in torch.autograd.grad(y, leaves, dy))
            done += 1
        # The single passes, of which synchronised statistics are made.
        rule = Rule(("instance", "layer", "batch"), shape[2] * shape[3], False, 1e-5, None, None, True)
        importance = [torch.tensor([0.2, 0.3, 0.5])] * 2
        operands = Operands(x.detach(), *importance, layer.weight.detach(), layer.bias.detach(), residual, None)
        forward = path._forward_in_passes(operands, rule, True)
        assert path._backward_in_passes(forward, operands, rule, True, dy).x.isfinite().all()
        torch.empty_like = empty_like
        done += 1
    print(done)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    code = main()
    # Guarded pages are given back by the end of the process, not by their destructors.
    os._exit(code)
