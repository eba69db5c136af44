"""`switchnorm check`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.cli.command import Commands
from switchnorm.config.ranges import Range
from switchnorm.errors import InputError
from switchnorm.files import check_page
from switchnorm.text import say

if TYPE_CHECKING:
    from switchnorm.config.schema import Config

#: Seconds between the lines of progress where there is no screen, and between drawings of one where there is.
_SECONDS, _REDRAW = 30.0, 0.2


def add(commands: Commands) -> None:
    """Add the command."""
    check = commands.add("check", _run, "look at data before training: every file once", _help())
    check.usage = "switchnorm check RECIPE | RUN | --data NAME [--out FILE] [--limit N] [--KEY VALUE ...]"
    check.add_argument("--out", type=Path, metavar="FILE", help="the page with pictures (check.html, here)")
    check.add_argument("--limit", type=int, metavar="N", help="look at N samples of each split, evenly spread")


def _help() -> str:
    return """Look at every file of a dataset once, and print what training will see.

  switchnorm check camvid/small --data.root DIR
  switchnorm check --data folder --data.root DIR
  switchnorm check runs/camvid-small-sn

It counts classes, sizes and kinds of files, and names what is broken, missing, double, in training and validation
alike, or left out. The page shows pictures as they are stored and as training sees them. Exit code 1 says that training
would stop at something."""


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    Range(1).check("--limit", options.limit)
    out = options.out or Path("check.html")
    check_page(out, "check.html")
    config = _config(arguments)

    # What follows imports torch, which takes seconds: wrong flags have been reported by now.
    from switchnorm.config.task_spec import find_task, loaded
    from switchnorm.data import create_dataset
    from switchnorm.survey.page import write_page
    from switchnorm.survey.whole import look_at
    from switchnorm.survey.words import print_survey
    from switchnorm.tasks.drawing import Drawing
    from switchnorm.training.pictures import as_expected

    config, _ = as_expected(config)
    dataset = create_dataset(**config.data).looked_at()
    dataset.prepare()
    with _progress() as watch:
        survey = look_at(dataset, seed=config.seed, limit=options.limit, watch=watch)
    name = config.data["name"]
    print_survey(name, survey)
    drawing = loaded(find_task(config.task).drawing) or Drawing
    say(f"page: {write_page(name, survey, drawing(dataset), out, seed=config.seed, epochs=config.train.epochs)}")
    if survey.wrong:
        raise SystemExit(1)


def _config(arguments: Sequence[str]) -> Config:
    """Of a recipe, a run, or flags alone."""
    from switchnorm.config.recipe import data_config, read_config
    from switchnorm.recipes import find_recipe
    from switchnorm.runs.folder import RunFolder

    if not arguments:
        raise InputError("check takes a recipe, a run or --data NAME; see `switchnorm check --help`")
    if arguments[0].startswith("-"):
        return data_config(arguments)
    place = Path(arguments[0])
    file = RunFolder.open(place).config_file if place.is_dir() else find_recipe(arguments[0])
    return read_config(file, arguments[1:])


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A line with a bar on a screen, elsewhere one now and then; both beside what is printed in the end."""
    from switchnorm.runs.durations import clock
    from switchnorm.screen import StatusLine, fitted, is_screen, make_console

    console = make_console(stderr=True)
    line = StatusLine(console) if is_screen(console) else None
    started = shown = time.monotonic()

    def watch(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < (_SECONDS if line is None else _REDRAW):
            return
        shown = now
        left = (now - started) / done * (total - done)
        parts = [(0, f"looked at {done:,} of {total:,}"), (1, f"{clock(left)} left")]
        if line is None:
            console.out(fitted(parts, None), highlight=False)
        else:
            line.show(parts, done / total)

    try:
        yield watch
    finally:
        if line is not None:
            line.stop()
