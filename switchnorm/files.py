"""Files that are there whole or not at all, whenever the process is killed and whatever the disk does."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from switchnorm.errors import InputError

_FULL = "free some space there"
_CLOSED = "make its folder writable"
_GONE = "its folder is gone; put it back"
_IN_THE_WAY = "a file is where a folder belongs; choose another place"
#: What helps against an error of the operating system, where that is known.
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit of a file's size (`ulimit -f`)",
    errno.EROFS: _CLOSED,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.ENOENT: _GONE,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.ENXIO: "give the name of a file",
}
#: The name of a part: the file, the machine and the number of the process that writes it. Earlier versions had no "@".
_PART = re.compile(r"\.(?:(?P<name>.+)@(?P<host>.+)|.+)\.(?P<pid>\d+)\.part")


def given_path(value: object, what: str) -> Path:
    """A path that somebody gave; raise `InputError` for anything else, with `what` for what it is the path of."""
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{what} {value!r:.80} is no path; give the file's name as text")
    return Path(value)


class WriteError(InputError):
    """A file cannot be written: which, why, and what helps."""

    def __init__(self, path: Path, error: OSError) -> None:
        remedy = _REMEDIES.get(error.errno or 0, "see that its disk is there and in order")
        super().__init__(f"{path} cannot be written: {error.strerror or error}; {remedy}")
        self.error = error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the operating system, and what others make of a full disk, into a `WriteError` of `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(path, error) from error
    except InputError:
        raise
    except Exception as error:
        if not _is_full(path.parent):
            raise
        raise WriteError(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error


def _is_full(folder: Path) -> bool:
    """Whether next to nothing goes onto the disk of a folder."""
    try:
        return shutil.disk_usage(folder).free < 1 << 16
    except OSError:
        return False


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, text as `utf8`, so that a kill leaves the old content or the new, never a part.

    Raises:
        WriteError: as `write_files`.
    """
    data = utf8(content) if isinstance(content, str) else content
    write_files({path: lambda part: _write(part, data)})


def utf8(text: str) -> bytes:
    """Text as files hold it; names that are no Unicode, for which Python has half surrogate pairs, are spelled out."""
    return text.encode("utf-8", "backslashreplace")  # as it is on the terminal


def write_files(files: Mapping[Path, Callable[[Path], None]], *, keep: Mapping[Path, Path] | None = None) -> None:
    """Write files that belong together. Each is whole at any moment: old, new or missing, never beside a stale one.

    Processes that write the same file do not disturb each other: each has parts of its own, and the last one's stays.
    Parts that a killed process of this machine left behind are removed.

    Args:
        files: for each path, what writes the content to the path that it is given. All are written beside and brought
            to the disk; then the first is renamed into place, and then those after it.
        keep: for some of the paths, where the old content goes.

    Raises:
        WriteError: a file cannot be written. No part is left then.
    """
    for path in files:
        if path.exists() and not (path.is_file() or path.is_dir()):  # /dev/stdout, say, would be replaced for everybody
            raise WriteError(path, OSError(errno.ENXIO, "it is a device or a pipe"))
    parts = {path: part_of(path) for path in files}
    kept = {path: part_of(to) for path, to in (keep or {}).items()}
    for path in files:
        remove_parts(path.parent, path.name)
    try:
        for path, write in files.items():
            with writing(path):
                write(parts[path])
                with parts[path].open("rb+") as file:
                    os.fsync(file.fileno())
        for path, to in (keep or {}).items():
            with writing(to):
                _keep(path, kept[path], to)
        for path in list(files)[1:]:
            with writing(path):
                path.unlink(missing_ok=True)
        for path, part in parts.items():
            with writing(path):
                os.replace(part, path)
    finally:
        for part in (*parts.values(), *kept.values()):
            remove(part)  # a disk that is gone keeps it, and has been named


def remove_parts(folder: Path, name: str | None = None, *, owned: bool = False) -> None:
    """Remove parts that killed processes of this machine left behind.

    Args:
        folder: where they are.
        name: of the file whose parts they are; None for every file's.
        owned: whether no other machine writes there, as a lock says, so that parts of other machines' processes go too,
            and those of the process that had this one's number before.
    """
    for part in _inside(folder):
        found = _PART.fullmatch(part.name)
        if found is None or name not in (None, found["name"]):
            continue
        pid, here = int(found["pid"]), found["host"] == socket.gethostname()
        # The lock's holder has no part yet: what has its number is from a process that had it before.
        if (owned and (not here or pid == os.getpid())) or (here and not _runs(pid)):
            remove(part)


def is_part(name: str) -> bool:
    """Whether a file of that name is the part of another, which some process writes or once began to write."""
    return _PART.fullmatch(name) is not None


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # whoever writes there will say so
        return []


def part_of(path: Path) -> Path:
    """What this process writes in the place of a file or folder; its number says which one on its own machine alone."""
    return path.with_name(f".{path.name}@{socket.gethostname()}.{os.getpid()}.part")


def _keep(path: Path, beside: Path, to: Path) -> None:
    """Let `to` be what `path` is, so that both are there at any moment."""
    if not path.exists():
        return  # it is written for the first time
    try:
        os.link(path, beside)
    except OSError:  # a file system without links: for a moment `to` alone is there
        os.replace(path, to)
    else:
        os.replace(beside, to)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 asks, and sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is somebody else's
    return True


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def check_page(path: Path, name: str) -> None:
    """Raise `InputError` where a page cannot be written, or would take the place of a file that is none.

    Args:
        path: of the page.
        name: what it is called by default.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; the page is one file: give {path / name}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path} is no name of a page; the nearest is {path.with_suffix('.html')}")


def check_free(path: Path, force: bool) -> None:
    """Raise `InputError` if `path` cannot be written, or exists and `force` does not say to replace it."""
    if not path.parent.is_dir():
        if path.parent.exists():
            raise InputError(f"{str(path.parent)!r} is a file, where a folder belongs; choose another place")
        raise InputError(f"folder {str(path.parent)!r} does not exist; make it, or choose another place")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; expected the name of a file")
    if path.exists() and not force:
        raise InputError(f"{str(path)!r} exists; choose another name, or replace it with --force")
