"""Lines that fit a terminal, and one at its bottom that is drawn anew; plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

#: The parts of a line in their order, each with its rank: where not all fit, those of a large rank are left out.
Parts = Sequence[tuple[int, str]]

_GAP = 2


def make_console(*, stderr: bool = False) -> Console:
    """Standard output or error; a terminal only where it is one, whatever FORCE_COLOR says: a file would get codes."""
    return Console(stderr=stderr, force_terminal=(sys.stderr if stderr else sys.stdout).isatty())


def is_screen(console: Console) -> bool:
    """Whether lines can be drawn anew: on a terminal that can move its cursor."""
    return console.is_terminal and not console.is_dumb_terminal


def fitted(parts: Parts, width: int | None) -> str:
    """One line of the parts that fit, two spaces between them; that of the smallest rank is always there.

    Args:
        parts: of the line.
        width: in columns; None takes all parts.
    """
    kept: set[int] = set()
    used = 0
    for place, (_, text) in sorted(enumerate(parts), key=lambda each: each[1][0]):
        wide = cell_len(text) + (_GAP if kept else 0)
        if not kept or width is None or used + wide <= width:
            kept.add(place)
            used += wide
    return (" " * _GAP).join(text for place, (_, text) in enumerate(parts) if place in kept)


class StatusLine:
    """A line at the bottom of a terminal, with a bar: what is printed to its console comes above, and it leaves none.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, parts: Parts, done: float) -> None:
        """Draw it anew.

        Args:
            parts: of the line.
            done: fraction of the bar, in [0, 1].
        """
        self._live.update(BarLine(parts, done))
        if not self._live.is_started:
            self._live.start()
        self._live.refresh()

    def stop(self) -> None:
        """Take it off the screen, and give the cursor back."""
        self._live.stop()


class BarLine:
    """A line of the parts that fit, and a bar that takes a fifth of the width.

    Args:
        parts: of the line.
        done: fraction of the bar, in [0, 1].
    """

    def __init__(self, parts: Parts, done: float) -> None:
        self.parts = parts
        self.done = done

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # The last column stays free: some terminals begin a new line as soon as it is written.
        width = options.max_width - 1
        bar = min(max(width // 5, 8), 40)
        text = Text(fitted(self.parts, width - bar - _GAP), no_wrap=True, overflow="crop")
        line = Table.grid(padding=(0, _GAP, 0, 0))
        line.add_row(text, ProgressBar(total=1, completed=self.done, width=bar))
        yield line
