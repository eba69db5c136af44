"""A driver of Triton without a device: kernels are compiled for an H100, and what would be launched is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from switchnorm.ops.kernels.triton import launch


class Launched(NamedTuple):
    """One call of a launcher.

    Attributes:
        name: of the kernel.
        programs: the grid.
        stream: as the driver knows it.
        arguments: addresses of tensors or None, then numbers and constants, as the kernel names them.
        hooked: whether the launcher was given launch hooks that do something.
    """

    name: str
    programs: tuple[int, int, int]
    stream: int
    arguments: tuple[Any, ...]
    hooked: bool


class Driver:
    """What Triton asks of a driver, of one device whose current stream has the number 7.

    Args:
        writing: whether to write down; otherwise a launch costs next to nothing.

    Attributes:
        launched: what would have been launched.
    """

    def __init__(self, writing: bool = True) -> None:
        self.launched: list[Launched] = []
        self._writing = writing
        self.utils = SimpleNamespace(
            load_binary=lambda *_: (None, 1, 32, 0, 1024),
            unload_module=lambda *_: None,
            get_device_properties=lambda _: {"max_shared_mem": 232448},
        )
        self.launcher_cls = self._launcher

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 7

    def _launcher(self, source: Any, metadata: Any) -> Callable[..., None]:
        def run(
            x: int,
            y: int,
            z: int,
            stream: int,
            function: Any,
            packed: Any,
            told: Any,
            enter: Any,
            leave: Any,
            *given: Any,
        ) -> None:
            hooked = any(hook is not None and getattr(hook, "calls", True) for hook in (enter, leave))
            addresses = tuple(t.data_ptr() if hasattr(t, "data_ptr") else t for t in given)
            self.launched.append(Launched(metadata.name, (x, y, z), stream, addresses, hooked))

        return run if self._writing else _COSTS_NOTHING


def _stream(device: int) -> int:
    return 7


#: A launcher of C, as Triton's own are: Python's would take time. It takes whatever it is given, and formats nothing.
_COSTS_NOTHING: Any = "".format


@contextmanager
def pretended(*, writing: bool = True) -> Iterator[Driver]:
    """Launch tensors on the CPU by the driver above."""
    pretending = Driver(writing)
    # Restored by name: to reset it would look for a device.
    active = "_active" if hasattr(driver, "_active") else "active"
    with mock.patch.object(driver, active, pretending), mock.patch.object(launch, "current_stream", _stream):
        yield pretending
