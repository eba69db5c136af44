"""Watching what is launched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from switchnorm.ops.kernels.triton import launch

#: Kernels of the forward and of the backward pass.
RESIDENT = (["resident_normalize_kernel"], ["resident_gradient_kernel"])
FUSED = (["moments_kernel", "normalize_kernel"], ["gradient_sums_kernel", "gradient_kernel"])
PASSES = (["moments_kernel", "affine_kernel"], ["sums_kernel", "combine_kernel"])


@contextmanager
def launches(*, run: bool = True, names: list[str] | None = None) -> Iterator[list[str]]:
    """The names of kernels that are launched inside, in their order, after others; they need not run."""
    names = [] if names is None else names
    launched = launch.Launches.__call__

    def record(self: launch.Launches, *tensors: Any, **given: Any) -> None:
        names.extend(each.kernel.fn.__name__ for each, _ in self.steps)
        if run:
            launched(self, *tensors, **given)

    with mock.patch.object(launch.Launches, "__call__", record):
        yield names


@contextmanager
def instead(of_launch: Any) -> Iterator[None]:
    """Call something else in place of launching, with all that a launch has."""

    def called(self: launch.Launches, *tensors: Any, numbers: tuple[float, ...] = ()) -> None:
        for each, pick in self.steps:
            constants = {name: value for name, value in each.constants.items() if name != "ACC"}
            options = {"warps": each.options["num_warps"], "registers": each.options["maxnreg"]}
            given = pick((*tensors, *numbers))
            of_launch(each.kernel, (each.programs,), given[0], *given, *each.numbers, **options, **constants)

    with mock.patch.object(launch.Launches, "__call__", called):
        yield
