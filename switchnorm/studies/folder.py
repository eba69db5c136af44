"""The folder of a study: checking that its runs fit, in their configuration and in their data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from switchnorm.config.deciding import deciding
from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.data import Dataset
from switchnorm.errors import InputError
from switchnorm.files import is_part
from switchnorm.runs.classes import recorded_classes
from switchnorm.runs.data_changes import data_changes
from switchnorm.runs.folder import RunFolder

#: Run folders and the configurations of their runs.
Plan = Sequence[tuple[Path, Config]]

#: What a run writes down by its data where nobody has set it.
_FOUND = ("data.range",)


def check_folder(plan: Plan, varied: Sequence[str]) -> None:
    """Refuse a folder that holds runs of another configuration, in a key that decides results.

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
    return {key: list(value) if isinstance(value, tuple) else value for key, value in deciding(config).items()}


def check_data(paths: Iterable[Path], dataset: Dataset) -> None:
    """Refuse to train further runs of a study on other data than those that are there were trained on.

    Args:
        paths: folders of runs of this data, which may not be there yet.
        dataset: as it is now, prepared.

    Raises:
        InputError: names the run and what has changed; or its run.json is damaged.
    """
    here = dataset.fingerprint()
    for path in paths:
        run = RunFolder(path)
        before = run.record().get("data") if run.record_file.is_file() else None
        if before is None or before == here:
            continue
        classes = recorded_classes(run)
        known = dataset if classes is None else dataset.with_classes(*classes)  # which may have them in another order
        if changes := data_changes(before, known, str(run.record_file)):
            raise InputError(
                f"{str(path)!r} was trained on other data than is here: {'; '.join(changes)}; bring that back, or "
                "choose another folder with --out"
            )
