"""Other limits of blocks and programs, so that small tensors take the ways of large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from switchnorm.ops.kernels.triton import mixture, plan

#: Cuts that bring small tensors to what large ones go through: several programs, pieces, tiles and steps.
CUTS = (
    {},
    {"RESIDENT": 0},
    {"RESIDENT": 0, "BLOCK": 64, "LONGEST_ROW": 32, "CHANNELS": 8, "PROGRAMS": 24, "MERGED": 64},
    {"RESIDENT": 0, "BLOCK": 256, "CHANNELS": 16, "PROGRAMS": 1},
    {"RESIDENT": 0, "BLOCK": 64, "LONGEST_ROW": 16, "CHANNELS": 4, "PROGRAMS": 40, "MERGED": 16},
)


@contextmanager
def cut(limits: dict[str, int]) -> Iterator[None]:
    """Other limits of blocks and programs."""
    plan.plan_for.cache_clear()
    with ExitStack() as stack:
        for name, value in limits.items():
            stack.enter_context(mock.patch.object(mixture if name == "RESIDENT" else plan, name, value))
        yield
    plan.plan_for.cache_clear()
