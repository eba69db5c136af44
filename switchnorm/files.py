"""Files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import contextlib
import glob
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from switchnorm.errors import InputError


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that a kill leaves the old content or the new, never a part."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    write_files({path: lambda part: _write(part, data)})


def write_files(files: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write files that belong together. Each is whole at any moment: old, new or missing, never beside a stale one.

    Processes that write the same file do not disturb each other: each has parts of its own, and the last one's stays.
    Parts that a killed process of this machine left behind are removed.

    Args:
        files: for each path, what writes the content to the path that it is given. All are written beside and brought
            to the disk; then the first is renamed into place, and then those after it.
    """
    beside = {path: path.with_name(f"{_begin_part(path)}{os.getpid()}.part") for path in files}
    for path in files:
        _remove_abandoned(path)
    try:
        for path, write in files.items():
            write(beside[path])
            with beside[path].open("rb+") as file:
                os.fsync(file.fileno())
        for path in list(files)[1:]:
            path.unlink(missing_ok=True)
        for path, part in beside.items():
            os.replace(part, path)
    finally:
        for part in beside.values():
            part.unlink(missing_ok=True)


def _begin_part(path: Path) -> str:
    """What names of parts of `path` begin with. A process is known by its number only on its own machine."""
    return f".{path.name}.{socket.gethostname()}."


def _remove_abandoned(path: Path) -> None:
    """Remove the parts of this machine's processes that no longer run."""
    begin = _begin_part(path)
    for part in path.parent.glob(f"{glob.escape(begin)}*.part"):
        pid = part.name.removeprefix(begin).removesuffix(".part")
        with contextlib.suppress(OSError):
            if pid.isdigit() and not _runs(int(pid)):
                part.unlink()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 asks, and sends nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def check_free(path: Path, force: bool) -> None:
    """Raise `InputError` if `path` cannot be written, or exists and `force` does not say to replace it."""
    if not path.parent.is_dir():
        raise InputError(f"folder {str(path.parent)!r} does not exist; make it, or choose another place")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; expected the name of a file")
    if path.exists() and not force:
        raise InputError(f"{str(path)!r} exists; choose another name, or replace it with --force")
