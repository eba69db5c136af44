"""The compiled library built so that mistakes of memory and of threads end the process, on all contracts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from switchnorm.ops.kernels.native import build
from tests.ops.kernels.contracts import CONTRACTS, LAYOUTS, ROUNDING

pytestmark = pytest.mark.sweep

HERE = Path(__file__).parent
CASES = len(CONTRACTS) * len(LAYOUTS) * len(ROUNDING)


def built(folder: Path, *flags: str) -> None:
    """All variants for this machine; their own memory holds NaN at first."""
    target = build.this_machine()
    for name, processor in target.variants.items():
        command = build.command(
            target, processor, folder / build.file_name(target, name), ("-O1", "-DPOISONED", *flags)
        )
        subprocess.run([part for part in command if part not in ("-fno-sanitize=all", "-s")], check=True)


def ran(module: str, folder: Path, **environment: str) -> str:
    """What a module prints, with other builds of the library."""
    command = [sys.executable, "-m", f"tests.ops.kernels.{module}", str(folder)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_undefined_behaviour_and_memory_that_was_not_written(tmp_path: Path) -> None:
    """Neither by any variant."""
    checks = "undefined,local-bounds"
    built(tmp_path, f"-fsanitize={checks}", f"-fsanitize-trap={checks}")
    for capability, variant in (("avx2", "avx2"), ("default", "baseline")):
        if variant in build.this_machine().variants:
            assert ran("contracts", tmp_path, ATEN_CPU_CAPABILITY=capability) == f"{CASES} {variant}"
        assert int(ran("guarded", tmp_path, ATEN_CPU_CAPABILITY=capability)) > 30


def test_addresses(tmp_path: Path) -> None:
    """Nothing outside of what was allocated is touched, and such a check finds what is."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("the address sanitizer's library is GCC's")
    found = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    sanitizer = found.stdout.strip()
    if not Path(sanitizer).is_file():
        pytest.skip("this GCC has no address sanitizer")
    built(tmp_path, "-g", "-fsanitize=address")
    # Python and torch keep memory to their end. The library is loaded by Python, and not the other way round.
    environment = {"LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}
    assert ran("contracts", tmp_path, **environment).startswith(f"{CASES} ")
    with pytest.raises(AssertionError, match="AddressSanitizer: heap-buffer-overflow"):
        ran("overflowing", tmp_path, **environment)


def test_races(tmp_path: Path) -> None:
    """No two threads touch the same memory but to read, and such a check finds those that do."""
    program = tmp_path / "races"
    flags = ("-std=c++17", "-O1", "-g", "-fsanitize=thread", "-ffp-contract=off", f"-I{build.SOURCE.parent}")
    # For the machine itself, whose compiler brings the sanitizer.
    start = [sys.executable, "-m", "ziglang", "c++", *flags, "-o", str(program), str(HERE / "races.cpp")]
    subprocess.run(start, check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) == 96
    raced = subprocess.run([program, "overlapping"], capture_output=True, text=True)
    assert raced.returncode != 0
    assert "ThreadSanitizer: data race" in raced.stderr
