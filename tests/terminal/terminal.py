"""A program in a terminal of its own: a pseudo-terminal whose screen an emulator draws."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

_SECONDS = 180


class Terminal:
    """A terminal in which a program has been started.

    Args:
        command: the program.
        columns: of the terminal.
        folder: the working directory.
        environment: what differs from this process's own.
    """

    def __init__(
        self, command: Sequence[str], columns: int, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.screen = pyte.Screen(columns, 60)
        self._stream = pyte.ByteStream(self.screen)
        #: All that was written, and the lines of the screen after each piece of it.
        self.written = b""
        self.seen: list[list[str]] = []
        self._master, slave = pty.openpty()
        self._size(columns)
        own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "FORCE_COLOR")}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**own, "TERM": "xterm-256color", **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C becomes a signal
        )
        os.close(slave)

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
        return self.process.wait()

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 1)[0]:
            return True
        try:
            written = os.read(self._master, 65536)
        except OSError:  # how Linux says that the program has ended
            return False
        self.written += written
        self._stream.feed(written)
        self.seen.append(self.lines)
        return bool(written)
