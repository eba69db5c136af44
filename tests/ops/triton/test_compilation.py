"""Every kernel compiles for an H100 or H200 without one, moves maps 16 bytes at a time, and keeps them in registers.

The host code runs on tensors without memory; in place of launching, kernels are compiled with what they would be given.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from switchnorm.ops.kernels.triton import fused, passes
from switchnorm.ops.kernels.triton import weight as weights
from switchnorm.ops.projection import SPARSE_SUPPORT, Call, Moved
from tests.ops.triton.cases import SN
from tests.ops.triton.launches import instead

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter does not compile")

TARGET = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}

#: Bytes of local memory of a thread that a limit of registers may cost, so that more programs share a multiprocessor.
TRADED = 32


class Compiled(NamedTuple):
    """What became of a launch.

    Attributes:
        name: of the kernel.
        ptx: its code.
        stack: bytes of local memory per thread.
        registers: per thread.
        shared: bytes of shared memory.
    """

    name: str
    ptx: str
    stack: int
    registers: int
    shared: int

    def vectors(self, access: str) -> int:
        """How many instructions move 16 bytes a thread: "ld" (through registers or straight to shared memory), "st"."""
        found = len(re.findall(rf"{access}\.global\S*\.v(4\.[bf]32|2\.[bf]64)", self.ptx))
        return found + (len(re.findall(r"cp\.async\S*\.shared\S*\.global[^;]*0x10", self.ptx)) if access == "ld" else 0)

    def barrier_before_release(self) -> bool:
        """Whether all threads' stores precede the arrival that announces them."""
        before, _, _ = self.ptx.partition("atom.global.gpu.acq_rel.add")
        stores = before.rfind("st.global")
        return "bar.sync" in before[stores:]


class Compiler:
    """Takes the place of `launch`."""

    def __init__(self) -> None:
        self.compiled: list[Compiled] = []

    def __call__(
        self,
        kernel: Any,
        programs: tuple[int, ...],
        x: torch.Tensor,
        *given: Any,
        warps: int,
        registers: int | None = None,
        **constants: Any,
    ) -> None:
        constants["ACC"] = tl.float64 if x.dtype == torch.float64 else tl.float32
        signature, constexprs, aligned = {}, {}, {}
        for place, name in enumerate(kernel.arg_names):
            value = given[place] if place < len(given) else constants.pop(name)
            if place >= len(given) or value is None:
                signature[name], constexprs[name] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                signature[name] = TYPES[value.dtype]
                aligned[place,] = [["tt.divisibility", 16]]
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32"
        assert not constants, "constants that the kernel does not have"
        source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=aligned)
        options = {"num_warps": warps, "enable_fp_fusion": True, "maxnreg": registers}
        compiled = triton.compile(source, target=TARGET, options=options)
        usage = usage_of(compiled.asm["cubin"])
        stack, registers = usage["STACK"] + usage["LOCAL"], usage["REG"]
        self.compiled.append(
            Compiled(kernel.fn.__name__, compiled.asm["ptx"], stack, registers, compiled.metadata.shared)
        )


def usage_of(cubin: bytes) -> dict[str, int]:
    """What a thread takes: registers (REG), bytes of local memory (STACK, spilled registers among them; LOCAL)."""
    tool = triton.knobs.nvidia.cuobjdump.path
    path = Path(os.environ["SWITCHNORM_TEST_CUBIN"])
    path.write_bytes(cubin)
    usage = subprocess.run([tool, "-res-usage", str(path)], capture_output=True, text=True, check=True).stdout
    return {name: int(size) for name, size in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SWITCHNORM_TEST_CUBIN", str(tmp_path / "kernel.cubin"))
    compiler = Compiler()
    with instead(compiler):
        yield compiler


def maps(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool) -> torch.Tensor:
    x = torch.empty(shape, dtype=dtype, device="meta")
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def compile_both(x: torch.Tensor, statistics: tuple[str, ...], *, relu: bool = False, residual: bool = False) -> None:
    """Compile both directions with all parameters."""
    table, of_statistics, single = (
        torch.empty(count, device="meta", dtype=torch.promote_types(x.dtype, torch.float32))
        for count in (x.shape[1], len(statistics), 1)
    )
    logits = [of_statistics] * 2 if len(statistics) > 1 else [None] * 2
    final = (single.long(), single.long(), single)
    call = Call(statistics, 1e-5, None, True, relu, SPARSE_SUPPORT, False)
    moved = Moved(table, table, single.long(), 0.1)
    added = x if residual else None
    tables = (*logits, final, table, table, None)
    y, saved, _, notes = fused.forward(call, x, tables, added, moved)
    kept = y if relu and residual else None
    fused.backward(call, notes, x, x, kept, saved, tables)


VECTORISED = [
    ((32, 256, 56, 56), torch.bfloat16, True, SN, True, False),
    ((32, 256, 56, 56), torch.bfloat16, False, SN, True, True),
    ((32, 256, 56, 56), torch.float32, True, SN, False, False),
    ((32, 256, 56, 56), torch.float32, False, SN, False, False),
    ((32, 2048, 7, 7), torch.float16, True, (*SN, "group:32"), True, True),
    # Multiples of 8 rather than 16.
    ((32, 1016, 7, 7), torch.bfloat16, True, ("batch",), False, False),
    ((2, 256, 200, 336), torch.bfloat16, True, ("group:32",), False, False),
    ((4, 64, 40, 40), torch.float64, True, SN, False, False),
    # Maps of no multiple of anything, of which one after another is read.
    ((32, 2048, 7, 7), torch.bfloat16, False, SN, True, False),
    ((32, 512, 7, 7), torch.float16, False, (*SN, "group:32"), True, True),
    ((4, 512, 97, 97), torch.bfloat16, False, SN, True, False),
    ((2, 512, 25, 42), torch.bfloat16, False, SN, True, True),
    ((4, 512, 97, 97), torch.float32, False, SN, True, True),
    ((2, 64, 8, 8), torch.bfloat16, True, (*SN, "group:4"), True, True),
    ((2, 64, 8, 8), torch.float32, False, SN, False, False),
]


@pytest.mark.parametrize(("shape", "dtype", "channels_last", "statistics", "relu", "residual"), VECTORISED, ids=str)
def test_fused(
    compiler: Compiler,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    channels_last: bool,
    statistics: tuple[str, ...],
    relu: bool,
    residual: bool,
) -> None:
    compile_both(maps(shape, dtype, channels_last), statistics, relu=relu, residual=residual)
    names = [compiled.name for compiled in compiler.compiled]
    assert len(names) in (2, 4)
    reads = {"moments_kernel": 1, "normalize_kernel": 1 + residual, "resident_normalize_kernel": 1 + residual}
    writes = {"moments_kernel": 0, "gradient_sums_kernel": int(relu and residual)}
    for compiled in compiler.compiled:
        least = reads.get(compiled.name, 2)
        assert compiled.vectors("ld") >= least, compiled.name
        assert compiled.vectors("st") >= writes.get(compiled.name, 1), compiled.name
        assert compiled.stack <= (0 if compiled.name.startswith("resident") else TRADED), compiled.name
        if "atom." in compiled.ptx:
            assert compiled.barrier_before_release(), compiled.name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_passes(compiler: Compiler, dtype: torch.dtype) -> None:
    x = maps((5, 64, 56, 56), dtype, True)
    table = torch.empty(5, 64, device="meta")
    passes.moments(x)
    passes.affine(x, table, table, table[0])
    passes.sums(x, x, table)
    passes.combine(x, table, x, table, table, table)
    for compiled, least in zip(compiler.compiled, (1, 1, 2, 2), strict=True):
        assert compiled.vectors("ld") >= least, compiled.name
        assert compiled.stack <= TRADED, compiled.name
    assert all(compiler.compiled[place].vectors("st") for place in (1, 3))


def test_odd_shapes(compiler: Compiler) -> None:
    """What cannot be read 16 bytes at a time; groups that tiles cut, flat inputs."""
    compile_both(maps((32, 510, 7, 7), torch.bfloat16, False), SN, relu=True)
    compile_both(maps((4, 511, 97, 97), torch.bfloat16, False), SN, relu=True, residual=True)
    compile_both(maps((4, 511, 97, 97), torch.float32, False), SN, relu=True, residual=True)
    compile_both(maps((64, 2100), torch.float16, False), ("layer", "batch", "group:7"))
    assert max(compiled.stack for compiled in compiler.compiled) <= TRADED


def test_weight_standardization(compiler: Compiler) -> None:
    weight, table = torch.empty(512, 4608, device="meta"), torch.empty(512, device="meta")
    weights.standardize(weight, 1e-5)
    weights.standardize_backward(weight, weight, table, table, 1e-5)
    assert all(compiled.stack == 0 for compiled in compiler.compiled)
