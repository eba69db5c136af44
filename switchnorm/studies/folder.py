"""The folder of a study: checking that its runs fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from switchnorm.config.keys import flatten
from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.files import is_part

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
        if is_part(path.name):  # a run whose making was cut off, and that is made again
            continue
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
