"""One run, one owner: the first process holds the run's folder, and the others learn whether it could."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from torch import distributed as dist

from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.files import WriteError
from switchnorm.processes import is_first, rank, world_size
from switchnorm.runs.folder import RunFolder
from switchnorm.training.callbacks.interruption import resuming

#: How long the first process waits for the others to read why it ends.
_SECONDS = 10
_turns = itertools.count()
_T = TypeVar("_T")


@contextlib.contextmanager
def new_run(path: Path, config: Config, command: Sequence[str], facts: dict[str, Any]) -> Iterator[RunFolder]:
    """Make a run folder, and hold it; one that is empty at the end, and was not there before, is taken away.

    Args:
        path, config, command: as `RunFolder.create`.
        facts: as its further ones.

    Raises:
        InputError: the folder holds something, or another process is at work in it; in every process of the run.
        WriteError: the folder cannot be made.
    """
    run = RunFolder(path)

    def begin(held: ExitStack) -> None:
        run.check_new()
        if path.exists():
            held.enter_context(run.lock())
            run.create(path, config, command, **facts)
        else:
            run.create(path, config, command, **facts)
            held.callback(_remove_empty, path)
            held.enter_context(run.lock())
        run.sweep()

    with _owned(run, begin):
        yield run


@contextlib.contextmanager
def existing_run(run: RunFolder, prepare: Callable[[], _T]) -> Iterator[_T]:
    """Hold a run that is continued.

    Args:
        run: the run.
        prepare: finds what the run goes on with. The first process calls it once it holds the run, and the others when
            that has written what it writes, so that all of them find the same.

    Yields:
        What `prepare` found.

    Raises:
        InputError: another process is at work in it, or `prepare` found something; in every process of the run.
        WriteError: the folder cannot be written.
    """

    def begin(held: ExitStack) -> _T:
        held.enter_context(run.lock())
        found = prepare()
        run.sweep()
        return found

    with _owned(run, begin) as found:
        yield prepare() if found is None else found


@contextlib.contextmanager
def _owned(run: RunFolder, begin: Callable[[ExitStack], _T]) -> Iterator[_T | None]:
    """Let the first process begin; yields what that returned, there, and None in the others."""
    found = None
    with ExitStack() as held:
        if is_first():
            try:
                found = begin(held)
            except Exception as error:
                _tell(str(error) or type(error).__name__)
                raise
            _tell("")
        elif world_size() > 1 and (said := _heard()):
            raise InputError(said)
        try:
            yield found
        except WriteError as error:
            raise InputError(f"{error}, then continue with `{resuming(run)}`") from error


def of_first(find: Callable[[], str]) -> str:
    """What the first process finds, in all processes of a run.

    They would not find the same by themselves: it begins to write while others still look.
    """
    if world_size() == 1:
        return find()
    key = _key()
    if not is_first():
        found: str = _store().get(key).decode()
        return found
    line = find()
    _store().set(key, line)
    return line


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it holds something
        folder.rmdir()


@functools.cache
def _store() -> Any:
    """What the processes of a run share before they have a group: torchrun's own store."""
    store = next(iter(dist.rendezvous("env://")))[0]
    # To prepare may take the first process long; if it dies torchrun ends the others.
    store.set_timeout(timedelta(days=1))
    return store


def _tell(line: str) -> None:
    """Say to the other processes why the first one ends, or nothing if it goes on."""
    if world_size() == 1:
        return
    key = _key()
    _store().set(key, line)
    if line:  # torchrun ends the others as soon as this one has ended
        with contextlib.suppress(RuntimeError):
            others = [f"{key}/{rank}" for rank in range(1, world_size())]
            _store().wait(others, timedelta(seconds=_SECONDS))


def _heard() -> str:
    """What the first process says."""
    key = _key()
    line: str = _store().get(key).decode()
    if line:
        _store().set(f"{key}/{rank()}", "")
    return line


def _key() -> str:
    """Of this run: a process may train several, one after the other, and all processes do so in one order."""
    return f"switchnorm/run/{next(_turns)}"
