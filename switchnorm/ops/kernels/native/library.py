"""The compiled library: finding the variant for this processor, loading it, and calling it.

It is C++ without a C++ library and without torch (`source/`), so that one build serves every Python and every torch.
Threads are torch's own: the library is handed the address of torch's parallel loop, so that `torch.set_num_threads`
holds for it and no second pool of threads competes with the first.
"""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import torch

from switchnorm.ops.kernels.base import FLOATING

#: Variants by what torch calls a processor's instructions, the best first; a variant that is not there is passed over.
VARIANTS = {"AVX512": ("avx2", "baseline"), "AVX2": ("avx2", "baseline")}
#: Names of dtypes in the library.
DTYPES = {dtype: name for name, dtype in enumerate(FLOATING)}

#: What `source/call.h` calls a `Call`: what calls of one shape share, then what each has of its own, by direction.
SHARED = Struct("5q q P q P q P 6q d".replace(" ", ""))
FORWARD = Struct("2P 2q 7P 3P 3P 2P 2P P d 56x".replace(" ", ""))
BACKWARD = Struct("2P 2q 7P 96x 7P".replace(" ", ""))
#: A single pass: of the shift, x, what is written, tables, and dy, and what is written again.
PASS = Struct("2P 2q P 8x P 16x P P 96x P P 40x".replace(" ", ""))
#: Flags of a call.
RELU, FLAT, UNBIASED, LEARNS, KEEPS, NEEDS_INPUT = (1 << bit for bit in range(6))
#: The single passes.
MOMENTS, AFFINE, SUMS, COMBINE = range(4)
_ERRORS = {1: MemoryError("no memory for the tables of a normalization")}


class Library(NamedTuple):
    """The functions of the library, which take a packed `Call` and return a status, and what they run on.

    Attributes:
        forward, backward: a normalization, and its gradients.
        single: one of the passes.
        parallel: the address of torch's parallel loop; 0 where this torch has none that can be called.
        team: the address by which the pool beneath it is called in that case; 0 where that has none either, so that
            all runs on one thread.
        path: the file.
    """

    forward: Callable[[bytes], int]
    backward: Callable[[bytes], int]
    single: Callable[[bytes, int], int]
    parallel: int
    team: int
    path: Path


@functools.cache
def load() -> Library | str:
    """The library, or why there is none.

    Warns:
        RuntimeWarning: it will use one thread alone, since this torch shares none.
    """
    # Here, since it is a command too, which Python wants to begin unimported.
    from switchnorm.ops.kernels.native import build

    wanted = VARIANTS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",))
    target = build.this_machine()
    paths = [build.BUILT / build.file_name(target, variant) for variant in wanted]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        other = any(build.BUILT.glob(f"*{target.suffix}"))
        state = "was built of other sources" if other else "is not installed"
        return f"the compiled library {state}; `python -m {build.__name__}` makes it"
    try:
        opened = ctypes.CDLL(str(path))
    except OSError as error:
        return f"the compiled library cannot be loaded ({error})"
    functions = [getattr(opened, f"switchnorm_{name}") for name in ("forward", "backward", "pass")]
    for function in functions:
        function.restype = ctypes.c_int64
        function.argtypes = [ctypes.c_char_p]
    functions[-1].argtypes = [ctypes.c_char_p, ctypes.c_int64]
    forward, backward, single = functions
    parallel, team = _threads()
    if not (parallel or team):
        warnings.warn(
            "the compiled library uses one thread, since this torch shares none", RuntimeWarning, stacklevel=2
        )
    return Library(forward, backward, single, parallel, team, path)


def _threads() -> tuple[int, int]:
    """The addresses of torch's parallel loop in its stable interface, and, before torch 2.10, of GNU OpenMP's teams."""
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll"):
        # Loaded already, so that this opens nothing: by its name alone where another package holds torch's libraries.
        for path in (folder / name, name):
            try:
                torch_cpu = ctypes.CDLL(os.fspath(path))
            except OSError:
                continue
            loop = _address(torch_cpu, "torch_parallel_for")
            return loop, 0 if loop else _address(torch_cpu, "GOMP_parallel")
    return 0, 0


def _address(library: ctypes.CDLL, name: str) -> int:
    """Where a function of a library, or of one that it needs, begins; 0 where there is none."""
    function = getattr(library, name, None)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


def check(status: int) -> None:
    """Raise what a status that is not 0 stands for."""
    if status:
        raise _ERRORS.get(status) or RuntimeError("torch's threads could not be used for a normalization")
