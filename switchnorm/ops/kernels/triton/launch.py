"""Launching kernels, and the counters by which programs of one launch find out who is last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Whether kernels run in Triton's interpreter, on the CPU; decided by TRITON_INTERPRET=1 before the first import.
INTERPRETING: bool = triton.knobs.runtime.interpret

#: What Triton takes a pointer for that is a multiple of it: one to 16 bytes, which a thread moves at once.
_ALIGNED = 16

_KNOBS = triton.knobs.runtime

_ACCUMULATED = {torch.float64: tl.float64}

#: Fewest counters of a buffer.
_FEWEST = 1024

#: By device and stream.
_counters: dict[tuple[int, int], Tensor] = {}


class Launch:
    """A kernel with everything decided about its launches but what it is given.

    Args:
        kernel: what `triton.jit` made, whose arguments are what it is given, then numbers, then constants.
        programs: how many.
        dtype: of x, which decides the type in which the kernel accumulates.
        numbers: the kernel's, in their order.
        warps: of a program.
        registers: most of a thread; None for as many as the compiler likes.
        constants: the kernel's, apart from ACC.

    Attributes:
        takes: names of what it is given.
    """

    def __init__(
        self,
        kernel: Any,
        programs: int,
        dtype: torch.dtype,
        numbers: tuple[float, ...],
        *,
        warps: int,
        registers: int | None = None,
        **constants: Any,
    ) -> None:
        self.kernel = kernel
        self.programs = programs
        self.numbers = numbers
        self.constants = {**constants, "ACC": _ACCUMULATED.get(dtype, tl.float32)}
        # Contraction to fused multiply-adds, which another version of Triton may not have as its default.
        self.options = {"num_warps": warps, "maxnreg": registers, "enable_fp_fusion": True}
        self.takes: list[str] = kernel.arg_names[: len(kernel.arg_names) - len(numbers) - len(self.constants)]

    def __call__(self, *given: Any) -> Any:
        """Launch in Triton's own way; return what was compiled, None in the interpreter."""
        return self.kernel[(self.programs, 1, 1)](*given, *self.numbers, **self.constants, **self.options)

    def ready(self, compiled: Any, pick: Callable[[Sequence[Any]], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What it takes to launch what was compiled, of all that is given to several taking what `pick` says."""
        constants = self.kernel.arg_names[len(self.takes) + len(self.numbers) :]
        values = (*self.numbers, *(self.constants[name] for name in constants))
        return self.programs, compiled.run, compiled.function, compiled.packed_metadata, pick, values


class Launches:
    """Launches in a row, given the same tensors.

    Triton's own way finds the compiled kernel by what it is given, which takes it longer than a small layer may. Here
    that happens once: whoever keeps launches promises that tensors always lie on one device and have the same dtypes,
    and that the same ones are None. Then what was compiled is called by itself, with the addresses of tensors. Where
    one is at no multiple of 16 bytes, or somebody watches launches (Triton's launch hooks, as its profiler Proton),
    every launch goes Triton's own way. Its other hooks, those around compiling, are only called there.

    Args:
        launches: in their order.
        names: of what all are given together, as their kernels name it; None where one takes all of it.

    Attributes:
        steps: each with what picks from all that is given what it takes.
    """

    __slots__ = ("_device", "_ready", "steps")

    def __init__(self, *launches: Launch, names: Sequence[str] | None = None) -> None:
        given = launches[0].takes if names is None else names
        self.steps = [(each, itemgetter(*map(given.index, each.takes))) for each in launches]
        self._ready: list[tuple[Any, ...]] = []
        self._device = -1

    def __call__(self, *tensors: Tensor | None, numbers: tuple[float, ...] = ()) -> None:
        """Launch on the current device, which has to be that of the tensors, and its current stream.

        Args:
            tensors: one at least not None.
            numbers: that may be others every time; named after the tensors.
        """
        given: list[int | float | None] = []
        bits = 0
        for t in tensors:
            if t is None:
                given.append(None)
            else:
                pointer = t.data_ptr()
                bits |= pointer
                given.append(pointer)
        plain = bits % _ALIGNED == 0
        if plain and self._ready and not _watched():
            given += numbers
            stream = current_stream(self._device)
            for programs, run, function, packed, pick, values in self._ready:
                run(programs, 1, 1, stream, function, packed, None, None, None, *pick(given), *values)
            return
        compiled = [each(*pick((*tensors, *numbers))) for each, pick in self.steps]
        if plain and not self._ready and compiled[0] is not None:
            self._device = next(t.get_device() for t in tensors if t is not None)
            self._ready = [each.ready(found, pick) for found, (each, pick) in zip(compiled, self.steps, strict=True)]


def _watched() -> bool:
    """Whether somebody hooks launches; in Triton 3.4 a hook is a function or None, later a list of functions."""
    enter, leave = _KNOBS.launch_enter_hook, _KNOBS.launch_exit_hook
    return bool(
        (enter is not None and getattr(enter, "calls", True)) or (leave is not None and getattr(leave, "calls", True))
    )


def current_stream(device: int) -> int:
    """The current stream of a CUDA device, as the driver knows it; 0 on the CPU."""
    found: int = torch._C._cuda_getCurrentRawStream(device) if device >= 0 else 0
    return found


def is_elsewhere(x: Tensor) -> bool:
    """Whether x, on a CUDA device, lies on another than the current one, where kernels would be launched."""
    return x.get_device() != torch.cuda.current_device()


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Makes x's device the current one for what is launched inside, and asked about capturing."""
    return torch.cuda.device(x.device) if x.is_cuda and is_elsewhere(x) else contextlib.nullcontext()


def counters(x: Tensor, count: int) -> Tensor:
    """At least `count` zeros on x's device, which is the current one; every kernel leaves them as zeros.

    One buffer per device and stream, where launches follow each other. A graph that is being captured gets its own,
    since it may be replayed on any stream, and clears them with every replay: no more than are needed.
    """
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return x.new_zeros(count, dtype=torch.int32)
    device = x.get_device()
    key = device, current_stream(device)
    found = _counters.get(key)
    if found is None or found.numel() < count:
        size = max(_FEWEST, 1 << (count - 1).bit_length())
        found = _counters[key] = x.new_zeros(size, dtype=torch.int32)
    return found
