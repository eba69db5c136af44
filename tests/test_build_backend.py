"""Installing: with the library, without a compiler, and where a registry has none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import build_backend
from switchnorm.ops.kernels.native import build
from tests.ops.kernels.test_library import no_compiler  # noqa: F401

ROOT = Path(build_backend.__file__).parent
BUILD = "import build_backend, sys; build_backend.build_{}(sys.argv[1])"


@pytest.mark.parametrize(
    ("offered", "asked_for"),
    [({"setuptools", "ziglang"}, True), ({"setuptools"}, False), (set(), True)],  # no answer at all is none about it
    ids=["a registry", "a registry without", "no registry"],
)
def test_a_compiler_is_asked_for_unless_the_registry_has_none(
    offered: set[str], asked_for: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(build_backend, "_offered", offered.__contains__)
    assert build_backend._compiler() == ([build_backend.COMPILER] if asked_for else [])


@pytest.mark.parametrize("installer", ["PIP", "UV"])
def test_the_registries_of_installers_are_asked(
    installer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Here a folder, which has one package."""
    wheel = tmp_path / "setuptools-90.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as written:
        written.writestr(
            "setuptools-90.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: setuptools\nVersion: 90.0\n"
        )
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv(f"{installer}_NO_INDEX", "1")
    monkeypatch.setenv(f"{installer}_FIND_LINKS", str(tmp_path))
    assert build_backend._offered("setuptools")
    assert not build_backend._offered("ziglang")


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], tuple[Path, str]]:
    """A function that builds a wheel of a copy of the sources; gives it, and what was said on stderr."""
    sources = tmp_path / "sources"
    ignored = shutil.ignore_patterns("built", "__pycache__")
    shutil.copytree(ROOT / "switchnorm", sources / "switchnorm", ignore=ignored)
    for name in ("build_backend.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)

    def make(kind: str) -> tuple[Path, str]:
        out = tmp_path / kind
        start = [sys.executable, "-c", BUILD.format(kind), str(out)]
        ran = subprocess.run(start, cwd=sources, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-2000:]
        (file,) = out.iterdir()
        return file, ran.stderr

    return make


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_a_wheel_is_for_every_machine_and_says_what_it_lacks(
    made: Callable[[str], tuple[Path, str]], tmp_path: Path
) -> None:
    """Even where an earlier build left a library."""
    inside = build.HERE.relative_to(ROOT) / "built"
    kept = f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"  # by setuptools
    for left in tmp_path / "sources", tmp_path / "sources" / kept:
        (left / inside).mkdir(parents=True)
        (left / inside / "baseline-0123456789ab.so").touch()
    wheel, said = made("wheel")
    assert wheel.name.endswith("-py3-none-any.whl")
    (line,) = [line for line in said.splitlines() if "library" in line]
    expected = "installed without the compiled CPU library, so that layers on a CPU are slower: there is no compiler"
    assert line == f"switchnorm:1: UserWarning: {expected}; `pip install ziglang` brings one"
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert not [name for name in names if "/built/" in name]
    # From which `python -m switchnorm.ops.kernels.native.build` makes it later.
    assert f"{build.SOURCE.relative_to(ROOT)}" in names


def test_the_source_distribution_has_what_a_build_needs(
    made: Callable[[str], tuple[Path, str]], tmp_path: Path
) -> None:
    archive, _ = made("sdist")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (root,) = (tmp_path / "unpacked").iterdir()
    assert (root / "build_backend.py").is_file()
    assert not (root / "tests").exists()
    folder = build.SOURCE.parent
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in (root / folder.relative_to(ROOT)).iterdir()} == expected


@pytest.mark.sweep
def test_a_wheel_is_for_this_machine_and_holds_the_library(made: Callable[[str], tuple[Path, str]]) -> None:
    wheel, _ = made("wheel")
    _, python, interface, platform = wheel.stem.rsplit("-", 3)
    assert (python, interface) == ("py3", "none")
    assert platform != "any"
    target = build.this_machine()
    inside = (build.HERE.relative_to(ROOT) / "built").as_posix()
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if "/built/" in name}
    assert names == {f"{inside}/{build.file_name(target, name)}" for name in target.variants}
