"""Building the compiled library, for this machine or for others: `python -m switchnorm.ops.kernels.native.build`.

The compiler is the C and C++ compiler of the package `ziglang`, which `pip install` brings for the time of a build: it
needs no other compiler, no headers and no linker on the machine, and builds for every other machine as well. This file
imports nothing of switchnorm, since `build_backend.py` runs it where neither switchnorm nor torch is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source" / "native.cpp"
#: The folder that a build puts the variants into.
BUILT = HERE / "built"

FLAGS = (
    *("-std=c++17", "-O3", "-shared", "-s"),
    # Neither exceptions nor types at run time, and nothing that is not C's: no C++ library is needed.
    *("-fno-math-errno", "-fno-exceptions", "-fno-rtti", "-nostdlib++", "-fvisibility=hidden"),
    # A product and a sum are one operation where the source says so, not where a compiler likes it.
    "-ffp-contract=off",
    "-fno-sanitize=all",
    *("-Wall", "-Wextra", "-Werror"),
)


class BuildError(RuntimeError):
    """A library was not built."""


class Target(NamedTuple):
    """A kind of machine.

    Attributes:
        triple: as the compiler calls it; None is the machine itself.
        tag: the platform in a wheel's name; None where none is made.
        suffix: of a shared library.
        variants: name -> processor, as the compiler calls it. `library.py` chooses among the names.
    """

    triple: str | None
    tag: str | None
    suffix: str
    variants: dict[str, str]


_X86 = {"avx2": "x86_64_v3", "baseline": "x86_64"}
_ARM = {"baseline": "generic"}
_APPLE = {"baseline": "apple_m1"}
# macOS 11 runs on none older, and these convert halves themselves.
_APPLE_X86 = {"avx2": "x86_64_v3", "baseline": "ivybridge"}
TARGETS = {
    "linux-x86_64": Target("x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64.manylinux2014_x86_64", ".so", _X86),
    "linux-aarch64": Target("aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64.manylinux2014_aarch64", ".so", _ARM),
    "musl-x86_64": Target("x86_64-linux-musl", "musllinux_1_2_x86_64", ".so", _X86),
    "musl-aarch64": Target("aarch64-linux-musl", "musllinux_1_2_aarch64", ".so", _ARM),
    "macos-arm64": Target("aarch64-macos.11.0", "macosx_11_0_arm64", ".dylib", _APPLE),
    "macos-x86_64": Target("x86_64-macos.11.0", "macosx_11_0_x86_64", ".dylib", _APPLE_X86),
    "windows-amd64": Target("x86_64-windows-gnu", "win_amd64", ".dll", _X86),
}


def this_machine() -> Target:
    """What the Python that runs here loads; a kind of machine without a wheel is built for as the compiler sees it."""
    system = {"Darwin": "macos", "Windows": "windows"}.get(platform.system(), "linux")
    machine = platform.machine().lower()
    if system == "windows":  # where a Python may be emulated, and then `machine` is not its own
        machine = sysconfig.get_platform().removeprefix("win-")
    elif "musl" in (sysconfig.get_config_var("SOABI") or ""):
        system = "musl"
    suffix = {"macos": ".dylib", "windows": ".dll"}.get(system, ".so")
    return TARGETS.get(f"{system}-{machine}") or Target(None, None, suffix, {"baseline": "baseline"})


def file_name(target: Target, variant: str) -> str:
    """Of a variant built of these sources, in this way: a digest in it keeps any other from being taken for it."""
    found = hashlib.sha256(repr((FLAGS, target)).encode())
    for path in sorted(SOURCE.parent.glob("*")):
        if path.suffix in (".cpp", ".h"):
            found.update(path.read_bytes())
    return f"{variant}-{found.hexdigest()[:12]}{target.suffix}"


def command(target: Target, processor: str, out: Path, extra: Sequence[str] = ()) -> list[str]:
    """What compiles one variant."""
    triple = [] if target.triple is None else ["-target", target.triple]
    code = [] if target.suffix == ".dll" else ["-fPIC"]
    start = [sys.executable, "-m", "ziglang", "c++"]
    return [*start, *triple, f"-mcpu={processor}", *FLAGS, *code, *extra, "-o", str(out), str(SOURCE)]


def build(target: Target, folder: Path) -> list[Path]:
    """Build the variants for a target into a folder, in place of those of other sources; return the files.

    What is there already is not built again. Builds may run at once, and while programs use what an earlier one made:
    each file is put into place whole.

    Raises:
        BuildError: the compiler is missing, its own words, or why nothing can be written to the folder.
    """
    files = {name: folder / file_name(target, name) for name in target.variants}
    missing = {name: path for name, path in files.items() if not path.is_file()}
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix="building-", ignore_cleanup_errors=True) as beside:
                _compile(target, missing, Path(beside))
        except OSError as error:
            raise BuildError(f"{error.strerror or error}: {error.filename or folder}") from error
    for other in folder.glob(f"*{target.suffix}"):
        if other not in files.values():
            # A library that a program has open cannot be removed everywhere; the next build does it.
            with contextlib.suppress(OSError):
                other.unlink()
    return [*files.values()]


def _compile(target: Target, files: dict[str, Path], beside: Path) -> None:
    # The compiler keeps what it has compiled, tens of megabytes; a user's home is not the place unless it was named.
    environment = {f"ZIG_{name}_CACHE_DIR": str(beside / "cache") for name in ("GLOBAL", "LOCAL")} | os.environ

    def one(name: str) -> None:
        fresh = beside / files[name].name
        ran = subprocess.run(
            command(target, target.variants[name], fresh), env=environment, capture_output=True, text=True
        )
        if ran.returncode:
            said = ran.stderr.strip() or ran.stdout.strip() or f"the compiler ended with {ran.returncode}"
            if "No module named ziglang" in said:
                raise BuildError("there is no compiler; `pip install ziglang` brings one")
            raise BuildError(f"{name} was not built: {said}")
        fresh.replace(files[name])

    with ThreadPoolExecutor(len(files)) as pool:
        for _ in pool.map(one, files):
            pass


def main() -> int:
    """Build for this machine into the package, or for a target into a folder."""
    parser = argparse.ArgumentParser(description="Build switchnorm's compiled CPU library.")
    parser.add_argument("--target", choices=[*TARGETS], help="another kind of machine; by default this one")
    parser.add_argument("--folder", type=Path, default=BUILT, help="where to; by default into the package")
    arguments = parser.parse_args()
    target = TARGETS[arguments.target] if arguments.target else this_machine()
    try:
        files = build(target, arguments.folder)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for file in files:
        print(f"{file}  {file.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
