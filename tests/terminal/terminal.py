"""The command line in a terminal of its own: a pseudo-terminal whose screen an emulator draws.

Each command is a process, forked from one that has imported torch already, so that a test takes no seconds for that.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

from switchnorm.cli import main
from switchnorm.signals import ENDING

_SECONDS = 180
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["switchnorm.training.launch", "switchnorm.studies.study", "switchnorm.report"])


def start(
    arguments: Sequence[str], folder: Path, output: str, environment: Mapping[str, str]
) -> multiprocessing.process.BaseProcess:
    """Start a command line in a process of its own.

    Args:
        arguments: of `switchnorm`.
        folder: the working directory.
        output: the terminal or file that it writes to.
        environment: what differs from this process's own.
    """
    process = _PROCESSES.Process(target=_run, args=(tuple(arguments), folder, output, dict(environment)))
    process.start()
    return process


def _run(arguments: Sequence[str], folder: Path, output: str, environment: Mapping[str, str]) -> None:
    os.setsid()
    # The server may have been started by readers of pictures, which hear no signals.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    opened = os.open(output, os.O_RDWR | os.O_CREAT)
    for stream in range(3):
        os.dup2(opened, stream)
    if os.isatty(opened):
        fcntl.ioctl(opened, termios.TIOCSCTTY, 0)  # so that Ctrl-C becomes a signal
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115, they stay open
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    os.chdir(folder)
    main(arguments)


class Terminal:
    """A terminal in which a command has been started.

    Args:
        arguments: of `switchnorm`.
        columns: of the terminal.
        folder: the working directory.
        environment: what differs from this process's own.
    """

    def __init__(
        self, arguments: Sequence[str], columns: int, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.screen = pyte.Screen(columns, 60)
        self._stream = pyte.ByteStream(self.screen)
        #: All that was written, and the lines of the screen after each piece of it.
        self.written = b""
        self.seen: list[list[str]] = []
        self._master, slave = pty.openpty()
        self._size(columns)
        environment = {"TERM": "xterm-256color", **(environment or {})}
        self.process = start(arguments, folder, os.ttyname(slave), environment)
        #: Open until the command has been here, for a terminal that nobody has open ends.
        self._slave: int | None = slave

    def _size(self, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))

    def resize(self, columns: int) -> None:
        """Make it narrower or wider while the program runs."""
        self._size(columns)
        self.screen.resize(60, columns)

    def type(self, keys: bytes) -> None:
        """Press keys; b"\\x03" is Ctrl-C."""
        os.write(self._master, keys)

    @property
    def lines(self) -> list[str]:
        """What the screen shows, without the empty lines at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    def until(self, there: Callable[[Terminal], bool]) -> None:
        """Go on until something is there."""
        deadline = time.monotonic() + _SECONDS
        while not there(self):
            assert time.monotonic() < deadline, self.lines
            assert self._read(), self.lines

    def finish(self) -> int:
        """Go on to the end of the program; its exit code."""
        deadline = time.monotonic() + _SECONDS
        while self._read():
            assert time.monotonic() < deadline, self.lines
        os.close(self._master)
        self.process.join()
        return int(self.process.exitcode or 0)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 1)[0]:
            return True
        try:
            written = os.read(self._master, 65536)
        except OSError:  # how Linux says that the program has ended
            return False
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None
        self.written += written
        self._stream.feed(written)
        self.seen.append(self.lines)
        return bool(written)
