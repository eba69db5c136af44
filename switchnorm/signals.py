"""Signals that ask a process to end: Ctrl-C, SIGTERM, SIGHUP, and SIGUSR1 or 2, which SLURM sends before time is up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")

#: Those that this system has.
ENDING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))

#: What comes within so many seconds of the first is the same request: torchrun passes on what a terminal has sent to
#: all processes already.
_ONE_REQUEST = 1.0

_LAST_WORDS = b"switchnorm: ended at once; what was saved before is whole\n"


class Interrupted(KeyboardInterrupt):
    """A signal has ended what was going on.

    Args:
        number: of the signal.
        said: what was saved and how to continue, in a line; "" where nobody knows.
    """

    def __init__(self, number: int, said: str = "") -> None:
        super().__init__(said)
        self.number = number
        self.said = said

    @property
    def exit_code(self) -> int:
        """What shells expect: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number


class Ending:
    """Hears the signals that ask to end, while it is entered.

    At first such a signal raises `Interrupted` wherever the process is. After `wait()` it is noted in `received`, for
    whoever looks at it where all is whole; a second one then ends the process at once.

    Signals that are ignored, as under nohup, and those that somebody else handles stay so. Only the main thread can
    handle signals: in another one nothing is heard.

    Attributes:
        received: the number of the first signal; 0 as long as there is none.
        raised: whether `Interrupted` was raised for it, of which a library in between may make another error.
    """

    def __init__(self) -> None:
        self.received = 0
        self.raised = False
        self._raises = True
        self._since = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Ending:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if _is_free(handler := signal.getsignal(number)):
                    self._before[number] = handler
                    signal.signal(number, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
            outer = getattr(handler, "__self__", None)
            if self.received and isinstance(outer, Ending):  # it is one request for both
                outer.received, outer.raised, outer._since = self.received, self.raised, self._since
        self._before = {}

    def wait(self) -> None:
        """Note signals from now on."""
        self._raises = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            if time.monotonic() - self._since > _ONE_REQUEST:
                end_at_once(number)
            return
        self.received, self._since = number, time.monotonic()
        if self._raises:
            self.raised = True
            raise Interrupted(number)


def end_at_once(number: int) -> None:
    """End this process by a signal, without tidying up."""
    with contextlib.suppress(OSError):
        if sys.stderr.isatty():
            os.write(2, b"\x1b[?25h\n")  # progress hides the cursor
        os.write(2, _LAST_WORDS)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def blocked(numbers: Iterable[int] = ENDING) -> Iterator[None]:
    """Block these signals, or some of them, for what is started meanwhile and inherits that.

    Terminals, `timeout` and SLURM send signals to all processes. One decides what becomes of them, and needs the others
    until then.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        # The tracker's start unblocks some of them.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def forget() -> None:
    """Let these signals end the process without a word, which ends anyway."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def kept_handlers() -> Iterator[None]:
    """Put back the handlers of these signals, which a library may change."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # of other languages, which Python cannot put back
                    signal.signal(number, handler)


def _is_free(handler: object) -> bool:
    """Whether a signal has its default effect, or is heard by an `Ending` further out."""
    return handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(
        getattr(handler, "__self__", None), Ending
    )
