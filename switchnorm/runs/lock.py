"""A lock on a folder that says who holds it, and ends with its process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from switchnorm.errors import InputError
from switchnorm.files import writing
from switchnorm.text import printable

#: The file in the folder; it names the holder.
NAME = ".lock"

#: What a file system says that has no locks, or a mount without its lock service.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder until the context or the process ends, however it ends.

    The lock is one of POSIX, on a range of bytes: NFS knows it, and children that are forked do not inherit it. It
    binds those who ask for it; whoever reads does not. Where there are no such locks (Windows, some network file
    systems) a line says so.

    Raises:
        InputError: another process holds the folder. It is named.
        WriteError: the folder cannot be written.
    """
    path = folder / NAME
    with writing(path):
        file = _acquired(path, folder)
    if file is None:
        yield
        return
    _name_holder(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError), file:
            if _is(file, path):  # the folder may be gone, or another one have its name
                path.unlink()


def _acquired(path: Path, folder: Path) -> IO[str] | None:
    """The locked file, or None where locks do not exist."""
    try:
        import fcntl
    except ImportError:
        _say_there_are_none(folder)
        return None
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(file, path):
                return file
        except (BlockingIOError, PermissionError):
            holder = _holder(file)
            file.close()
            raise InputError(f"{str(folder)!r} is in use by {holder}; wait for it, or end it") from None
        except OSError as error:
            file.close()
            if error.errno not in _UNSUPPORTED:
                raise
            _say_there_are_none(folder)
            return None
        file.close()  # its holder removed it in the meantime


def _say_there_are_none(folder: Path) -> None:
    print(f"{folder}: no locks on this file system; see that no other process works there", file=sys.stderr)


def _is(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _name_holder(file: IO[str]) -> None:
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    since = datetime.now().astimezone().isoformat(" ", timespec="seconds")
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "command": command}
    with contextlib.suppress(OSError):  # on a full disk it holds all the same
        file.truncate(0)
        os.write(file.fileno(), (json.dumps(holder) + "\n").encode())  # a buffer would be written once more at the end


def _holder(file: IO[str]) -> str:
    """Who holds the lock, in words."""
    file.seek(0)
    try:
        found = json.loads(file.read(4096))
        host, pid, since, command = (found[key] for key in ("host", "pid", "since", "command"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another process"
    return printable(f"process {pid} on {host} since {since} ({command})").replace("\n", " ")
