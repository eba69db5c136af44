"""Launching kernels, and the counters by which programs of one launch find out who is last."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
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

_counters: dict[tuple[torch.device, int], Tensor] = {}


class Launch:
    """A kernel with everything decided about its launches but which tensors it is given.

    Triton's own way finds the compiled kernel by what it is given, which takes it longer than a small layer may. Here
    that happens once: whoever keeps a launch promises that tensors always lie on one device and have the same dtypes,
    and that the same ones are None. Then what was compiled is called by itself, with the addresses of tensors. Where
    one is at no multiple of 16 bytes, or somebody watches launches (Triton's launch hooks, as its profiler Proton),
    every launch goes Triton's own way. Its other hooks, those around compiling, are only called there.

    Args:
        kernel: what `triton.jit` made, whose arguments are tensors, then numbers, then constants.
        programs: how many.
        dtype: of x, which decides the type in which the kernel accumulates.
        numbers: the kernel's, in their order.
        warps: of a program.
        registers: most of a thread; None for as many as the compiler likes.
        constants: the kernel's, apart from ACC.
    """

    __slots__ = ("_compiled", "constants", "kernel", "numbers", "options", "programs")

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
        self._compiled: tuple[Any, ...] | None = None

    def __call__(self, *tensors: Tensor | None) -> None:
        """Launch on the current device, which has to be that of the tensors, and its current stream."""
        pointers: list[int | None] = []
        bits = 0
        for t in tensors:
            if t is None:
                pointers.append(None)
            else:
                pointer = t.data_ptr()
                bits |= pointer
                pointers.append(pointer)
        plain = bits % _ALIGNED == 0
        if plain and self._compiled is not None and not _watched():
            run, function, packed, values, device = self._compiled
            run(self.programs, 1, 1, current_stream(device), function, packed, None, None, None, *pointers, *values)
            return
        compiled = self.kernel[(self.programs, 1, 1)](*tensors, *self.numbers, **self.constants, **self.options)
        if plain and compiled is not None and self._compiled is None:
            names = self.kernel.arg_names[len(tensors) + len(self.numbers) :]
            values = (*self.numbers, *(self.constants[name] for name in names))
            device = next(t.get_device() for t in tensors if t is not None)
            self._compiled = compiled.run, compiled.function, compiled.packed_metadata, values, device


def _watched() -> bool:
    """Whether somebody hooks launches; in Triton 3.4 a hook is a function or None, later a list of functions."""
    for hook in (_KNOBS.launch_enter_hook, _KNOBS.launch_exit_hook):
        if hook is not None and getattr(hook, "calls", True):
            return True
    return False


def current_stream(device: int) -> int:
    """The current stream of a CUDA device, as the driver knows it; 0 on the CPU."""
    found: int = torch._C._cuda_getCurrentRawStream(device) if device >= 0 else 0
    return found


def is_elsewhere(x: Tensor) -> bool:
    """Whether x lies on another CUDA device than the current one, where kernels would be launched."""
    return x.is_cuda and x.get_device() != torch.cuda.current_device()


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Makes x's device the current one for what is launched inside, and asked about capturing."""
    return torch.cuda.device(x.device) if is_elsewhere(x) else contextlib.nullcontext()


def counters(x: Tensor, count: int) -> Tensor:
    """At least `count` zeros on x's device, which is the current one; every kernel leaves them as zeros.

    One buffer per device and stream, where launches follow each other. A graph that is being captured gets its own,
    since it may be replayed on any stream, and clears them with every replay: no more than are needed.
    """
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return x.new_zeros(count, dtype=torch.int32)
    key = x.device, current_stream(x.get_device())
    found = _counters.get(key)
    if found is None or len(found) < count:
        size = max(_FEWEST, 1 << (count - 1).bit_length())
        found = _counters[key] = x.new_zeros(size, dtype=torch.int32)
    return found


def launch(
    kernel: Any,
    programs: tuple[int, ...],
    x: Tensor,
    *arguments: Any,
    warps: int,
    registers: int | None = None,
    **constants: Any,
) -> None:
    """One launch in Triton's own way, for what is rare; x's device has to be the current one.

    Args:
        kernel: what `triton.jit` made.
        programs: how many, as Triton's grid.
        x: decides the type in which the kernel accumulates.
        arguments, constants: the kernel's, apart from ACC.
        warps, registers: as of `Launch`.
    """
    constants["ACC"] = _ACCUMULATED.get(x.dtype, tl.float32)
    kernel[programs](*arguments, num_warps=warps, maxnreg=registers, enable_fp_fusion=True, **constants)
