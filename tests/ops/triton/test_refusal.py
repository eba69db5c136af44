"""What the path says where it cannot be taken."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import torch

from switchnorm.ops import kernel, normalize
from switchnorm.ops.kernels.choice import KernelFallback, _warn
from switchnorm.ops.kernels.triton import TritonKernel


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter takes the CPU")
def test_an_input_on_the_cpu_takes_the_reference_and_says_so() -> None:
    x = torch.randn(2, 3, 4, 4)
    _warn.cache_clear()
    with kernel("triton"), pytest.warns(KernelFallback, match="the input is on cpu"):
        y = normalize(x, ("layer",)).y
    with kernel("reference"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(y, normalize(x, ("layer",)).y)


def test_other_devices() -> None:
    assert TritonKernel().refusal(torch.zeros(1, device="meta")) == "the input is on meta"


def test_importing_it_leaves_the_gpu_alone() -> None:
    code = "import switchnorm.ops.kernels.triton, torch; assert not torch.cuda.is_initialized()"
    subprocess.run([sys.executable, "-c", code], check=True)
