"""Finding and loading the compiled library, building it, and putting it into wheels."""

from __future__ import annotations

import base64
import hashlib
import platform
import shutil
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from switchnorm.ops.kernels.native import build, library, wheels

TARGET = build.this_machine()


@pytest.fixture(autouse=True)
def _loaded_anew() -> Iterator[None]:
    library.load.cache_clear()
    yield
    library.load.cache_clear()


def refused() -> str:
    reason = library.load()
    assert isinstance(reason, str)
    return reason


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "BUILT", tmp_path)
    expected = "the compiled library is not installed; `python -m switchnorm.ops.kernels.native.build` makes it"
    assert refused() == expected


@pytest.mark.usefixtures("library")
def test_a_library_of_other_sources_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A header that was changed, or another way of compiling, makes what was built before another library."""
    assert isinstance(library.load(), library.Library)
    sources = tmp_path / "source"
    shutil.copytree(build.SOURCE.parent, sources)
    monkeypatch.setattr(build, "SOURCE", sources / "native.cpp")
    found = {build.file_name(TARGET, "baseline")}
    (sources / "native.cpp~").write_text("left by an editor")
    with (sources / "rule.h").open("a") as header:
        header.write("// changed")
    for _ in range(2):
        library.load.cache_clear()
        found.add(build.file_name(TARGET, "baseline"))
        assert "was built of other sources; `python -m" in refused()
        monkeypatch.setattr(build, "FLAGS", ("-O0", *build.FLAGS))
    assert len(found) == 3


def test_what_is_no_library_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in TARGET.variants:
        (tmp_path / build.file_name(TARGET, name)).write_bytes(b"nothing")
    monkeypatch.setattr(build, "BUILT", tmp_path)
    assert "cannot be loaded" in refused()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("capability", ["AVX512", "AVX2", "DEFAULT", "SVE256"])
def test_the_variant_is_that_of_the_processor(capability: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next one where it is not there."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    found = library.load()
    assert isinstance(found, library.Library)
    best = "avx2" if capability.startswith("AVX") and "avx2" in TARGET.variants else "baseline"
    assert found.path.name == build.file_name(TARGET, best)
    shutil.copy(build.BUILT / build.file_name(TARGET, "baseline"), tmp_path)
    monkeypatch.setattr(build, "BUILT", tmp_path)
    library.load.cache_clear()
    found = library.load()
    assert isinstance(found, library.Library)
    assert found.path.parent == tmp_path


@pytest.mark.usefixtures("library")
def test_one_thread_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a torch has no pool that could be used."""
    monkeypatch.setattr(library, "_address", lambda library, name: 0)
    with pytest.warns(RuntimeWarning, match="one thread"):
        found = library.load()
    assert isinstance(found, library.Library)
    assert (found.parallel, found.team) == (0, 0)


def test_a_torch_whose_libraries_lie_elsewhere_shares_its_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = library._threads()
    assert any(expected)
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    assert library._threads() == expected


MACHINES = {
    "linux-x86_64": ("Linux", "x86_64", "cpython-311-x86_64-linux-gnu", "linux-x86_64"),
    "linux-aarch64": ("Linux", "aarch64", "cpython-311-aarch64-linux-gnu", "linux-aarch64"),
    "musl-x86_64": ("Linux", "x86_64", "cpython-311-x86_64-linux-musl", "linux-x86_64"),
    "macos-arm64": ("Darwin", "arm64", "cpython-311-darwin", "macosx-11.0-universal2"),
    "windows-amd64": ("Windows", "ARM64", "cp311-win_amd64", "win-amd64"),  # emulated
    None: ("Linux", "riscv64", "cpython-311-riscv64-linux-gnu", "linux-riscv64"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_that_of_its_python(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    system, machine, interface, kind = MACHINES[name]
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sysconfig, "get_config_var", {"SOABI": interface}.get)
    monkeypatch.setattr(sysconfig, "get_platform", lambda: kind)
    found = build.this_machine()
    if name is None:
        assert found == build.Target(None, None, ".so", {"baseline": "baseline"})
    else:
        assert found == build.TARGETS[name]


def test_a_compiler_s_error_is_passed_on(tmp_path: Path) -> None:
    target = build.this_machine()._replace(variants={"baseline": "no-such-processor"})
    with pytest.raises(build.BuildError, match=r"(?s)baseline was not built: .*unknown CPU"):
        build.build(target, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python -m ziglang` fails as where it is not installed."""
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"import sys; sys.exit('{sys.executable}: No module named ziglang')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_or_a_folder_to_write_to_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for folder, reason in (("new", "there is no compiler; `pip install ziglang` brings one"), ("file", "File exists")):
        monkeypatch.setattr(sys, "argv", ["build", "--folder", str(tmp_path / folder)])
        assert build.main() == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {reason}")
        assert said.count("\n") == 1
    assert not [*(tmp_path / "new").iterdir()]


def test_builds_at_once_leave_whole_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And whoever looks meanwhile finds a whole file, or none; what was built of other sources goes."""
    slow = "import sys, time\nfor _ in range(5): open(sys.argv[1], 'a').write('x'); time.sleep(.01)"
    monkeypatch.setattr(build, "command", lambda target, processor, out: [sys.executable, "-c", slow, str(out)])
    stale = tmp_path / f"baseline-of-others{TARGET.suffix}"
    stale.touch()
    names = {build.file_name(TARGET, name) for name in TARGET.variants}
    builders = [threading.Thread(target=build.build, args=(TARGET, tmp_path)) for _ in range(4)]
    for each in builders:
        each.start()
    while any(each.is_alive() for each in builders):
        for name in names:
            assert not (tmp_path / name).exists() or (tmp_path / name).read_text() == "x" * 5
    assert {path.name for path in tmp_path.iterdir()} == names
    # What is there is not built again.
    monkeypatch.setattr(build, "command", lambda target, processor, out: ["false"])
    assert {path.name for path in build.build(TARGET, tmp_path)} == names


def test_a_repacked_wheel_is_whole(tmp_path: Path) -> None:
    given = tmp_path / "switchnorm-1.0-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(given, "w") as wheel:
        wheel.writestr("switchnorm/__init__.py", "x = 1\n")
        wheel.writestr(f"{wheels.INSIDE}avx2.so", "old")
        wheel.writestr("switchnorm-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-linux_x86_64\n")
        wheel.writestr("switchnorm-1.0.dist-info/RECORD", "")
    dll = tmp_path / "baseline.dll"
    dll.write_bytes(b"new")
    target = build.TARGETS["windows-amd64"]
    made = wheels.repack(given, target, [dll], tmp_path)
    assert made.name == "switchnorm-1.0-py3-none-win_amd64.whl"
    with zipfile.ZipFile(made) as wheel:
        names = set(wheel.namelist())
        assert {entry.date_time[0] for entry in wheel.infolist()} == {1980}, "the same bytes whenever it is made"
        assert f"{wheels.INSIDE}avx2.so" not in names
        assert wheel.read(f"{wheels.INSIDE}baseline.dll") == b"new"
        assert b"Tag: py3-none-win_amd64\n" in wheel.read("switchnorm-1.0.dist-info/WHEEL")
        record = wheel.read("switchnorm-1.0.dist-info/RECORD").decode().splitlines()
        assert {line.split(",")[0] for line in record} == names
        for line in record[:-1]:
            path, digest, size = line.split(",")
            content = wheel.read(path)
            assert int(size) == len(content)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert digest == f"sha256={expected}"


@pytest.mark.usefixtures("library")
def test_what_a_library_needs_and_offers() -> None:
    """The own one is looked at as those of other machines are."""
    for name in TARGET.variants:
        found = wheels.check(build.BUILT / build.file_name(TARGET, name), build.this_machine())
        assert "malloc" in found.imported


@pytest.mark.usefixtures("library")
def test_a_library_that_needs_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, target = build.BUILT / build.file_name(TARGET, "baseline"), build.this_machine()
    other = target._replace(triple=f"sparc-{str(target.triple).partition('-')[2]}")
    with pytest.raises(RuntimeError, match=r"baseline\S+ is for \w+, not sparc"):
        wheels.check(own, other)
    if ".so" in own.suffixes:
        older = target._replace(triple=str(target.triple).partition(".")[0] + ".2.1")
        with pytest.raises(RuntimeError, match=r"needs GLIBC_2\S+, and is to run from 2.1 on"):
            wheels.check(own, older)
        data = bytearray(own.read_bytes())
        at = data.index(bytes.fromhex("51e57464"))  # the segment that is about the stack, and then its bits
        data[at + 4] |= 1
        executable = tmp_path / f"stack{TARGET.suffix}"
        executable.write_bytes(data)
        with pytest.raises(RuntimeError, match="would not be loaded"):
            wheels.check(executable, target)
    monkeypatch.setattr(wheels, "EVERYWHERE", dict.fromkeys(wheels.EVERYWHERE, "nothing"))
    with pytest.raises(RuntimeError, match=r"baseline\S+ needs \S*lib\S+, .*which not every machine has"):
        wheels.check(own, target)
    if target.suffix != ".dll":
        monkeypatch.undo()
        monkeypatch.setattr(wheels, "IMPORTED", wheels.IMPORTED - {"malloc"})
        with pytest.raises(RuntimeError, match=r"baseline\S+ takes malloc from elsewhere"):
            wheels.check(own, target)
    monkeypatch.setattr(wheels, "FUNCTIONS", frozenset({"other"}))
    with pytest.raises(RuntimeError, match=r"offers .*'switchnorm_forward'.* instead of"):
        wheels.check(own, target)
    text = tmp_path / "text.so"
    text.write_text("text")
    with pytest.raises(ValueError, match="is no shared library"):
        wheels.check(text, target)


@pytest.mark.sweep
@pytest.mark.parametrize("name", build.TARGETS)
def test_every_target_is_built(name: str, tmp_path: Path) -> None:
    """And offers what is called, and needs what every such machine has."""
    target = build.TARGETS[name]
    for made in build.build(target, tmp_path):
        assert "malloc" in wheels.check(made, target).imported
    assert {path.name for path in tmp_path.iterdir()} == {build.file_name(target, v) for v in target.variants}
