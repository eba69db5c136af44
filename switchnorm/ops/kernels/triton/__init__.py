"""The fast path on CUDA, in Triton."""

from switchnorm.ops.kernels.triton.kernel import TritonKernel

__all__ = ["TritonKernel"]
