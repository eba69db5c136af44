"""Other limits of blocks and programs, so that small tensors take the ways of large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from switchnorm.ops.kernels.triton import cut as cuts
from switchnorm.ops.kernels.triton import mixture, plan
from switchnorm.ops.kernels.triton.device import H200

#: Cuts that bring small tensors to what large ones go through: several programs, pieces, tiles and steps.
CUTS = (
    {},
    {"RESIDENT": 0},
    {"RESIDENT": 0, "BLOCK_BYTES": 256, "ROW": 32, "ROW_BYTES": 32, "MERGED": 64, "multiprocessors": 6},
    {"RESIDENT": 0, "BLOCK_BYTES": 1024, "POOLED": 2, "multiprocessors": 1},
    {
        "RESIDENT": 0,
        "BLOCK_BYTES": 256,
        "ROW": 16,
        "ROW_BYTES": 16,
        "MERGED": 16,
        "POOLED": 2,
        "multiprocessors": 10,
    },
)


@contextmanager
def cut(limits: dict[str, int]) -> Iterator[None]:
    """Other limits of blocks, and a device of other size."""
    limits = dict(limits)
    device = H200._replace(multiprocessors=limits.pop("multiprocessors", H200.multiprocessors))
    plan._forget()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(plan, "device_of", return_value=device))
        for name, value in limits.items():
            stack.enter_context(mock.patch.object(mixture if name == "RESIDENT" else cuts, name, value))
        yield
    plan._forget()
