"""Watching what is launched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from switchnorm.ops.kernels.triton import fused, launch, passes, weight


@contextmanager
def launches(*, run: bool = True) -> Iterator[list[str]]:
    """The names of kernels that are launched inside, in their order; they need not run."""
    names: list[str] = []

    def record(kernel: Any, *arguments: Any, **constants: Any) -> None:
        names.append(kernel.fn.__name__)
        if run:
            launch.launch(kernel, *arguments, **constants)

    with instead(record):
        yield names


@contextmanager
def instead(of_launch: Any) -> Iterator[None]:
    """Call something else in place of `launch`."""
    with (
        mock.patch.object(fused, "launch", of_launch),
        mock.patch.object(passes, "launch", of_launch),
        mock.patch.object(weight, "launch", of_launch),
    ):
        yield
