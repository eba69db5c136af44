"""Progress of many trainings: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task
from switchnorm.runs.durations import clock
from switchnorm.screen import BarLine, is_screen, make_console
from switchnorm.studies.folder import Plan
from switchnorm.studies.parallel import Outcome
from switchnorm.text import printable

_PLAIN_SECONDS = 60.0
# The fixed cost of a step, in samples that take as long.
_STEP_SAMPLES = {"cuda": 512, "cpu": 32}


def cost(config: Config) -> float:
    """The work in a training, for comparing trainings: its samples, and a fixed cost for each step."""
    train = config.train
    samples = train.epoch_steps * train.batch_size if train.epoch_steps else 1
    return train.epochs * samples * (1 + _STEP_SAMPLES.get(train.device, 32) / train.batch_size)


class StudyProgress:
    """Shows which trainings are under way, how those that ended did, and how long the rest will take.

    Args:
        plan: all runs, in the order in which they start.
        workers: trainings side by side.
        title: what a run is called.
        result: called with the folder as a training ends, and how it did; returns what is shown above the progress.
        console: where to.
    """

    def __init__(
        self,
        plan: Plan,
        workers: int,
        title: Callable[[Path, Config], str],
        result: Callable[[Path, Outcome], RenderableType | None] = lambda path, outcome: None,
        console: Console | None = None,
    ) -> None:
        self.console = console or make_console()
        self.workers = workers
        self.result = result
        self.costs = {path: cost(config) for path, config in plan}
        self.scores = {path: find_task(config.task).score.column for path, config in plan}
        self.epochs = {path: config.train.epochs for path, config in plan}
        self.titles = {path: title(path, config) for path, config in plan}
        self.ended_count = 0
        self.waiting = [path for path, _ in plan]
        self.busy: dict[Path, _UnderWay] = {}
        #: Of the trainings that ended here: their cost in all, and the time that they took.
        self.worked = self.seconds = 0.0
        self.above: RenderableType | None = None
        self.printed = time.monotonic()
        self.live = Live(get_renderable=self._draw, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> StudyProgress:
        if is_screen(self.console):
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def started(self, path: Path) -> None:
        """Note the time."""
        self.waiting.remove(path)
        self.busy[path] = _UnderWay(path)

    def ended(self, path: Path, outcome: Outcome) -> None:
        """Print how it ended."""
        if path in self.busy:
            training = self.busy.pop(path)
            seconds = time.monotonic() - training.started
            took = clock(seconds)
            if not outcome.error:
                self.seconds += seconds
                self.worked += self.costs[path] * (1 - training.before / self.epochs[path])
        else:
            self.waiting.remove(path)
            took = "was there already"
        self.ended_count += 1
        self.above = self.result(path, outcome)
        said = outcome.error or f"{100 * outcome.result[self.scores[path]]:.1f} %"
        if outcome.stopped is not None:
            said += f", stopped after epoch {outcome.stopped} of {self.epochs[path]}"
        count = f"[{self.ended_count:{len(str(len(self.costs)))}}/{len(self.costs)}]"
        self._print(f"{count} {self.titles[path]}: {said}, {took}")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._print(line)

    def tick(self) -> None:
        """Say every minute where things stand, where there is no screen to show it."""
        for training in self.busy.values():
            training.look()
        if not is_screen(self.console) and time.monotonic() - self.printed >= _PLAIN_SECONDS:
            self.printed = time.monotonic()
            under_way = ", ".join(
                f"{self.titles[p]} epoch {each.done}/{self.epochs[p]}" for p, each in self.busy.items()
            )
            self._print(f"under way: {under_way or 'none yet'}")

    def seconds_left(self) -> float | None:
        """An estimate, from the pace so far and the order of what is to come; None before there is a pace."""
        now = time.monotonic()
        worked, seconds = self.worked, self.seconds
        for path, training in self.busy.items():
            training.look()
            if training.done > training.before:
                worked += self.costs[path] * (training.done - training.before) / self.epochs[path]
                seconds += training.reached - training.started
        if not worked or not seconds:
            return None
        pace = seconds / worked
        free = [0.0] * (self.workers - len(self.busy))
        for path, training in self.busy.items():
            epoch = pace * self.costs[path] / self.epochs[path]
            # Of the epoch that it is in, what is done counts; a slow one is nearly done for long.
            free.append(max(epoch * (self.epochs[path] - training.done) - min(now - training.reached, epoch), 0.0))
        heapq.heapify(free)
        for path in self.waiting:
            heapq.heapreplace(free, free[0] + pace * self.costs[path])
        return max(free)

    def _print(self, line: str) -> None:
        """A line that stays: in a terminal broken between words, elsewhere whole and with the time that is left."""
        if is_screen(self.console):
            self.console.print(Text(printable(line)))
        else:
            left = self.seconds_left()
            self.console.print(Text(printable(line) + (f"; {clock(left)} left" if left else "")), soft_wrap=True)

    def _draw(self) -> RenderableType:
        left = self.seconds_left()
        parts = [(0, f"{self.ended_count} of {len(self.costs)} trainings")]
        parts += [] if left is None else [(1, f"{clock(left)} left")]
        line = BarLine(parts, self.ended_count / len(self.costs))
        under_way = Table.grid(padding=(0, 2))
        under_way.add_column(no_wrap=True, overflow="ellipsis")
        for path, training in list(self.busy.items()):
            epochs = f"epoch {training.done}/{self.epochs[path]}"
            numbers = (Text(each, no_wrap=True) for each in (epochs, clock(time.monotonic() - training.started)))
            under_way.add_row(Text(f"  {printable(self.titles[path])}"), *numbers)
        above = [] if self.above is None else [Text(""), self.above, Text("")]
        return Group(*above, line, under_way)


class _UnderWay:
    """A training: when it started here, the epochs that it had before and has, and when it reached these."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = self.reached = time.monotonic()
        self.before = self.done = epochs_done(path)

    def look(self) -> None:
        """Note whether another epoch ended."""
        done = epochs_done(self.path)
        if done != self.done:
            self.done, self.reached = done, time.monotonic()


def epochs_done(path: Path) -> int:
    """The rows of a run's metrics.csv."""
    try:
        return max((path / "metrics.csv").read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return 0
