"""The folder of a study: checking that its runs fit, locking it, and removing what a kill left unfinished."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from switchnorm.config.keys import flatten
from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.errors import InputError

#: Run folders and the configurations of their runs.
Plan = Sequence[tuple[Path, Config]]

#: What a run writes down by its data where nobody has set it.
_FOUND = ("data.range",)


def check_folder(plan: Plan, varied: Sequence[str]) -> None:
    """Refuse a folder that holds runs of another configuration.

    Args:
        plan: the runs that are meant for it, side by side in one folder.
        varied: keys in which runs of one study differ; other runs in the folder must agree in all the rest.

    Raises:
        InputError: names the run and the first key that differs.
    """
    planned = dict(plan)
    for found in sorted(plan[0][0].parent.glob("*/config.yaml")):
        path = found.parent
        ours = _keys(planned.get(path, plan[0][1]))
        ignored = () if path in planned else varied
        theirs = _keys(read_config(found))
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) is None and key in _FOUND:
                continue
            if ours.get(key) != theirs.get(key) and not key.startswith(tuple(ignored)):
                raise InputError(
                    f"{str(path)!r} holds a run of another configuration, with {key} {theirs.get(key)} and not "
                    f"{ours.get(key)}; choose another folder with --out"
                )


def _keys(config: Config) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in flatten(config.content())}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a study's folder: two processes that train the same runs would overwrite each other's files.

    The lock ends with the process, however it ends. Systems without such locks (Windows) go without.

    Raises:
        InputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is at work in {str(folder)!r}; wait for it, or choose another with --out"
            ) from None
        yield


def remove_incomplete(path: Path) -> None:
    """Remove a run folder whose creation was interrupted: it has no record yet, so nothing was trained in it."""
    made_first = ("checkpoints", "config.yaml", ".config.yaml.", ".run.json.")
    if path.is_dir() and all(inside.name.startswith(made_first) for inside in path.iterdir()):
        shutil.rmtree(path)
