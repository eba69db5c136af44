"""A small case of every kernel, for a memory checker: `python -m benchmarks.gpu.small DEVICE`."""

from __future__ import annotations

import sys

import torch

from benchmarks.subjects import LAYOUTS, make_inputs
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm2d
from switchnorm.ops import kernel, normalize, standardize_weight

#: One program; and maps in pieces, whose size no vector divides.
RESIDENT, PIECES = (2, 32, 4, 4), (3, 36, 45, 31)


def main(device: str) -> None:
    """Everything forward and backward, once."""
    cases = [(RESIDENT, "contiguous")] + ([(PIECES, layout) for layout in LAYOUTS] if device == "cuda" else [])
    for shape, layout in cases:
        x, residual, dy = make_inputs(shape, layout, torch.float32, device, 0)
        for layer in (SwitchNorm2d(shape[1], ("instance", "batch", "group:4")), SparseSwitchNorm2d(shape[1])):
            layer.to(device)(x.requires_grad_(), residual.requires_grad_(), "relu").backward(dy)
        layer.eval()(x.detach(), activation="relu")
    importance = torch.full((2,), 0.5, device=device)
    # Parts of unequal sizes are not fused: each pass is a kernel by itself.
    normalize(x, ("batch", "layer"), importance, importance, ghost=(1, len(x) - 1)).y.backward(dy)
    weight = torch.randn(24, 36, 3, 3, device=device, requires_grad=True)
    standardize_weight(weight).sum().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    print("every kernel has run")


if __name__ == "__main__":
    with kernel("triton"):
        main(sys.argv[1])
