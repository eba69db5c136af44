"""Files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from switchnorm.errors import InputError


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that a kill leaves the old content or the new, never a part."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    write_files({path: lambda part: _write(part, data)})


def write_files(files: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write files that belong together. Each is whole at any moment: old, new or missing, never beside a stale one.

    A part that a kill left behind has the same name at the next attempt, which replaces it.

    Args:
        files: for each path, what writes the content to the path that it is given. All are written beside and brought
            to the disk; then the first is renamed into place, and then those after it.
    """
    beside = {path: path.with_name(f".{path.name}.part") for path in files}
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
