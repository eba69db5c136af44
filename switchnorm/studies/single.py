"""One training that a cluster computes, as a study of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from switchnorm.config.cluster import Cluster
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.study import Study


def train_single(
    config: Config, path: Path, command: Sequence[str], cluster: Cluster
) -> tuple[RunFolder, dict[str, Any]]:
    """Submit a training and follow it; what is there of it already is continued.

    Args:
        config: the configuration.
        path: the run folder. Logs and what submitit keeps of the job go beside it, into PATH-jobs.
        command: how it was started, for the run's record.
        cluster: where.

    Returns:
        The run and its result.

    Raises:
        InputError: anything that keeps the run from starting, a folder with another configuration, or a training that
            failed.
    """
    beside = path.with_name(f"{path.name}-jobs")
    # Whatever else lies in the folder around it is none of its business.
    study = Study(
        out=beside,
        plan=[(path, config)],
        names={path: path.name},
        workers=1,
        varied=("",),
        cluster=cluster,
        about=f"its log: {beside / 'logs' / path.name}.log",
    )
    outcome = study.run(command)[path]
    if outcome.error:
        raise InputError(f"{str(path)!r} failed: {outcome.error}")
    return RunFolder.open(path), outcome.result
