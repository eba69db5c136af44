"""Whether Triton can compile and launch on a device at all: found out once, by a kernel that does next to nothing.

Triton may be installed where it cannot work: it builds its launcher with a C compiler and Python's headers, and asks
the driver for a version of its own. Plain PyTorch works there, and so shall a model.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from switchnorm.ops.kernels.base import first_line


@functools.cache
def failure(device: int) -> str | None:
    """Why nothing can be launched on the CUDA device with this index, in a line; None where it can.

    The host does not wait for the device. What it would only say later is no matter of compilers, and not hidden.
    """
    if torch.version.hip is not None:
        return "nobody has tested it on AMD's devices; the nearest that was are NVIDIA's"
    try:
        _try(device)
    except Exception as error:
        return f"a trial of Triton ended with {first_line(error)}"
    return None


def _try(device: int) -> None:
    with torch.cuda.device(device):
        _probe_kernel[(1,)](torch.empty(1, dtype=torch.int32, device="cuda"), enable_fp_fusion=True)


@triton.jit
def _probe_kernel(out_ptr):
    tl.store(out_ptr, 1)
