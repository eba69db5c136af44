"""What reading a file costs: memory and time, and how it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from switchnorm.errors import InputError

#: A file costs at most twice its size and so much memory, in bytes, and so many seconds of the processor.
CONSTANT, SECONDS = 256 << 20, 5.0
READ, REFUSED = "read", "refused"


def outcome(read: Callable[[], object], size: int) -> tuple[str, int, float]:
    """Whether a file of that size was read or refused in one line; memory in bytes and seconds that it took.

    Anything but an `InputError` of one line, more memory and more time fail.
    """
    before, began = _restart(), time.process_time()
    said, ended = "", READ
    try:
        read()
    except InputError as error:
        said, ended = str(error), REFUSED
    took, rise = time.process_time() - began, _peak() - before
    assert "\n" not in said, said
    assert len(said) < 4000 + size, f"{len(said)} characters"
    assert rise <= 2 * size + CONSTANT, f"{rise >> 20} MB for {size} bytes"
    assert took <= SECONDS, f"{took:.1f} s"
    return ended, rise, took


if sys.platform == "linux":

    def _restart() -> int:
        """Let the peak of memory begin anew; what is in use now."""
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS:")

    def _peak() -> int:
        return _status("VmHWM:")

    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

else:
    import resource

    def _restart() -> int:
        return _peak()

    def _peak() -> int:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
