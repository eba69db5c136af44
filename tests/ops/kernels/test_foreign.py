"""The libraries of other kinds of machines, run where something here runs their programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from switchnorm.ops.kernels.native import build

pytestmark = pytest.mark.sweep

HERE = Path(__file__).parent
#: What runs a program of a target, and what it needs; a package of Debian's brings it.
RUNNERS: dict[str, tuple[list[str], Path, str]] = {
    "linux-aarch64": (
        ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"],
        Path("/usr/aarch64-linux-gnu/lib/libc.so.6"),
        "qemu-user-static and libc6-arm64-cross",
    ),
    "musl-x86_64": (["/lib/ld-musl-x86_64.so.1"], Path("/lib/ld-musl-x86_64.so.1"), "musl"),
    "windows-amd64": (["/usr/lib/wine/wine64"], Path("/usr/lib/wine/wine64"), "wine64"),
}
#: Largest differences of sums, relative to the largest of a result or 1, in the order of dtypes in `foreign.cpp`.
BOUNDS = (2e-6, 1e-13, 1e-4, 1e-4)
#: Results of one case there.
RESULTS = 8


def program(target: build.Target, out: Path) -> Path:
    """What loads a library and prints what it gives."""
    flags = ("-std=c++17", "-O1", "-nostdlib++", "-fno-exceptions", "-fno-rtti", f"-I{build.SOURCE.parent}")
    linked = ["-dynamic"] if "musl" in str(target.triple) else []
    start = [sys.executable, "-m", "ziglang", "c++", "-target", str(target.triple), *flags, *linked]
    subprocess.run([*start, "-o", str(out), str(HERE / "foreign.cpp")], check=True)
    return out


def given(command: list[str]) -> list[list[float]]:
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [[float(each) for each in line.split()] for line in ran.stdout.splitlines()]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    target = build.this_machine()
    library = build.BUILT / build.file_name(target, next(iter(target.variants)))
    return given([str(program(target, tmp_path_factory.mktemp("own") / "foreign")), str(library)])


@pytest.mark.parametrize("name", RUNNERS)
def test_it_computes_the_same(
    name: str, own: list[list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINEPREFIX", str(tmp_path / "wine"))
    runner, needed, packages = RUNNERS[name]
    if not needed.exists() or shutil.which(runner[0]) is None:
        pytest.skip(f"nothing here runs it: apt-get install {packages}")
    target = build.TARGETS[name]
    command = [*runner, str(program(target, tmp_path / ("foreign.exe" if target.suffix == ".dll" else "foreign")))]
    assert len(own) == 2 * 2 * len(BOUNDS) * RESULTS
    for library in build.build(target, tmp_path / "built"):
        found = given([*command, str(library)])
        assert len(found) == len(own)
        for index, (ours, theirs) in enumerate(zip(found, own, strict=True)):
            bound = BOUNDS[index // RESULTS % len(BOUNDS)]
            largest = max(1.0, *map(abs, theirs))
            assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= bound * largest, (library.name, index)
