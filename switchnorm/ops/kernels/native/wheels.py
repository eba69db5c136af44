"""Wheels for every kind of machine, made on one: `python -m switchnorm.ops.kernels.native.wheels`, in a checkout.

The source distribution is made, and from it one wheel, as `pip install` makes it. The wheels of all machines are this
one but for the compiled library and their names.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from switchnorm.ops.kernels.native.binary import Binary, inspect
from switchnorm.ops.kernels.native.build import TARGETS, Target, build

#: Where what was compiled is kept, which is not compiled again.
KEPT = Path("build", "native")
#: Where the library lies in a wheel.
INSIDE = "switchnorm/ops/kernels/native/built/"
#: What a library offers.
FUNCTIONS = frozenset(f"switchnorm_{name}" for name in ("forward", "backward", "pass"))
#: The C library of each kind of machine, by the names of its parts.
EVERYWHERE = {
    "linux-gnu": r"libc\.so\.6|libm\.so\.6|ld-linux-[a-z0-9_-]+\.so\.\d",
    "linux-musl": r"libc\.so",
    "macos": r"/usr/lib/libSystem\.B\.dylib",
    "windows-gnu": r"kernel32\.dll|ntdll\.dll|api-ms-win-crt-[a-z0-9-]+\.dll",
}
#: What it is asked for, where it is not Windows', which starts libraries by many functions.
IMPORTED = frozenset(
    ("malloc", "free", "exp", "memcpy", "memset", "bzero", "__bzero", "memset_pattern16", "dyld_stub_binder")
)


def repack(wheel: Path, target: Target, libraries: list[Path], out: Path) -> Path:
    """A wheel with other libraries and another platform, in the folder `out`.

    Args:
        wheel: of any platform.
        target: whose wheel it becomes.
        libraries: the files of the target.
        out: the folder.
    """
    assert target.tag is not None
    name, version = wheel.name.split("-")[:2]
    made = out / f"{name}-{version}-py3-none-{target.tag}.whl"
    record = f"{name}-{version}.dist-info/RECORD"
    lines: list[str] = []
    with zipfile.ZipFile(wheel) as given, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as written:

        def write(path: str, content: bytes) -> None:
            info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))  # the same bytes whenever it is built
            info.external_attr, info.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            written.writestr(info, content)

        def add(path: str, content: bytes) -> None:
            write(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(content)}")

        for path in given.namelist():
            if path == record or path.startswith(INSIDE) or path.endswith("/"):
                continue
            content = given.read(path)
            if path.endswith(".dist-info/WHEEL"):
                kept = [line for line in content.decode().splitlines() if line and not line.startswith("Tag:")]
                tags = [f"Tag: py3-none-{tag}" for tag in target.tag.split(".")]
                content = "\n".join([*kept, *tags, ""]).encode()
            add(path, content)
        for library in libraries:
            add(INSIDE + library.name, library.read_bytes())
        lines.append(f"{record},,")
        write(record, "\n".join([*lines, ""]).encode())
    return made


def check(library: Path, target: Target) -> Binary:
    """Look at what a library is, offers and needs; return it.

    Raises:
        RuntimeError: it is for another processor, offers something else than `FUNCTIONS`, needs more than every machine
            of the target has, or would not be loaded there.
    """
    found = inspect(library)
    processor, _, system = str(target.triple).partition("-")
    # As in linux-gnu.2.17: the oldest C library, or macOS, that the library is built for.
    system, _, oldest = system.partition(".")
    if found.processor != processor:
        raise RuntimeError(f"{library.name} is for {found.processor}, not {processor}")
    if found.exported != FUNCTIONS:
        raise RuntimeError(f"{library.name} offers {sorted(found.exported)} instead of {sorted(FUNCTIONS)}")
    if more := sorted(name for name in found.needed if not re.fullmatch(EVERYWHERE[system], name, re.IGNORECASE)):
        raise RuntimeError(f"{library.name} needs {', '.join(more)}, which not every machine has")
    if (more := sorted(found.imported - IMPORTED)) and system != "windows-gnu":
        raise RuntimeError(f"{library.name} takes {', '.join(more)} from elsewhere, which not every machine may have")
    for version in sorted(found.versions):
        if _numbers(version.rpartition("_")[2]) > _numbers(oldest):
            raise RuntimeError(f"{library.name} needs {version}, and is to run from {oldest} on")
    if not found.loadable:
        raise RuntimeError(
            f"{library.name} would not be loaded: its stack may be executed, or its signature is missing"
        )
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def main() -> int:
    """Build all wheels, or those of some targets, and the source distribution, into a folder."""
    parser = argparse.ArgumentParser(description="Build switchnorm's wheels for every kind of machine.")
    parser.add_argument("targets", nargs="*", help=f"among {', '.join(TARGETS)}; by default all")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.targets if name not in TARGETS]
    if unknown:
        parser.error(f"{unknown[0]} is no target; choose from {', '.join(TARGETS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        start = [sys.executable, "-m", "build", "--outdir", folder, "."]
        if code := subprocess.run(start, stdout=subprocess.DEVNULL).returncode:
            return code
        (wheel,), (sources,) = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
        made = [Path(shutil.copy(sources, arguments.out))]
        for name in arguments.targets or TARGETS:
            target = TARGETS[name]
            try:
                libraries = build(target, KEPT / name)
                needs = [check(library, target) for library in libraries]
            except RuntimeError as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                return 2
            made.append(repack(wheel, target, libraries, arguments.out))
            systems = sorted(frozenset().union(*(each.needed | each.versions for each in needs)))
            print(f"{made[-1]}  {made[-1].stat().st_size / 1e6:.1f} MB, needs {', '.join(systems)}", flush=True)
    return subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, made)]).returncode


if __name__ == "__main__":
    sys.exit(main())
