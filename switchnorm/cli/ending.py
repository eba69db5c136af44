"""How a command ends: streams that take any text, a failure in one line, and a file with what no line can say."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from switchnorm.processes import world_size
from switchnorm.text import printable, say

#: In the environment: print the traceback of an unexpected error, and keep no file of it.
TRACEBACK = "SWITCHNORM_TRACEBACK"
#: Within this time the processes of one run fail of the same error.
_TOGETHER_SECONDS = 60


def open_streams() -> None:
    """Let standard output and error take any text: what an encoding lacks is spelled out, a closed one loses all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the shell's `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, it stays open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Let warnings be a line each, without the place in the code that Python names, and its source."""
    before = warnings.formatwarning
    # Assigned, as Python's documentation has it; what records warnings does not come by here.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {' '.join(printable(str(message)).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def complain(message: str) -> None:
    """Print a failure, in one line; a narrow terminal gets it broken between words."""
    with contextlib.suppress(OSError):  # nobody is there to be told
        say(f"switchnorm: {' '.join(message.split())}", file=sys.stderr)


def lost_output() -> OSError | None:
    """Why standard output takes no more, and None where it does.

    What it holds is thrown away then: Python would try to write it once more as it ends, and fail in lines of its own.
    """
    try:
        print(flush=True)  # an empty line: where Python buffers nothing, the text that failed is gone
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None


def complain_unexpected(error: BaseException) -> None:
    """Say in one line that something failed which should not, and where its traceback is.

    Of the processes that torchrun started the first that fails says it, and the others of the same error do not.
    """
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
        return
    text = "".join(traceback.format_exception(error))
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    what = what.strip().partition("\n")[0]
    try:
        file = _write(text)
    except OSError as full:
        print(text, file=sys.stderr)
        complain(f"failed unexpectedly, {what}; the traceback is above, for no file could be written ({full})")
        return
    if file is not None:
        complain(
            f"failed unexpectedly, {what}; the traceback is in {file}, to be reported with the command; "
            f"{TRACEBACK}=1 prints it"
        )


def _write(text: str) -> Path | None:
    """Keep a traceback in a file of its own; None where another process of this run did so just now."""
    if world_size() == 1:
        handle, name = tempfile.mkstemp(prefix="switchnorm-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return Path(name)
    # torchrun is the parent of all processes of a machine.
    path = Path(tempfile.gettempdir(), f"switchnorm-torchrun-{os.getppid()}.txt")
    try:
        with open(path, "x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except FileExistsError:
        if time.time() - path.stat().st_mtime < _TOGETHER_SECONDS:
            return None
        path.unlink()  # of another torchrun that had this number
        return _write(text)
    return path
