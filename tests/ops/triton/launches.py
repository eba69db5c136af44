"""Watching what is launched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from switchnorm.ops.kernels.triton import launch, passes

#: Kernels of the forward and of the backward pass.
RESIDENT = (["resident_normalize_kernel"], ["resident_gradient_kernel"])
FUSED = (["moments_kernel", "normalize_kernel"], ["gradient_sums_kernel", "gradient_kernel"])
PASSES = (["moments_kernel", "affine_kernel"], ["sums_kernel", "combine_kernel"])


@contextmanager
def launches(*, run: bool = True, names: list[str] | None = None) -> Iterator[list[str]]:
    """The names of kernels that are launched inside, in their order, after others; they need not run."""
    names = [] if names is None else names

    def record(kernel: Any, *arguments: Any, **constants: Any) -> None:
        names.append(kernel.fn.__name__)
        if run:
            launch.launch(kernel, *arguments, **constants)

    with instead(record):
        yield names


@contextmanager
def instead(of_launch: Any) -> Iterator[None]:
    """Call something else in place of `launch`."""

    def prepared(self: launch.Launch, *tensors: Any) -> None:
        constants = {name: value for name, value in self.constants.items() if name != "ACC"}
        options = {"warps": self.options["num_warps"], "registers": self.options["maxnreg"]}
        of_launch(self.kernel, (self.programs,), tensors[0], *tensors, *self.numbers, **options, **constants)

    with (
        mock.patch.object(launch.Launch, "__call__", prepared),
        mock.patch.object(passes, "launch", of_launch),
    ):
        yield
