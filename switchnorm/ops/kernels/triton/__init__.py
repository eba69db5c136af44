"""The fast path on CUDA, in Triton.

On the host: kernel.py is the path as the others are; probe.py tries it once; fused.py prepares and makes the launches
of both directions, passes.py those of single passes around rules that are not fused, launch.py is a launch;
mixture.py is what the kernels know of a rule. plan.py chooses how a shape is cut into programs, out of what cut.py
lists, for what device.py knows of a device and tuning.py was told by measurements.

On the device: bundles.py has what functions are given together. moments.py, then affine.py are the forward pass,
sums.py, then combine.py the backward pass, resident.py either in one launch. rule.py is the mixture and its gradient,
for all of these, importance.py how logits become weights; tables.py and geometry.py say where things lie. weight.py
standardizes.
"""

from switchnorm.ops.kernels.triton.kernel import TritonKernel

__all__ = ["TritonKernel"]
