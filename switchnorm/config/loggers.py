"""Where a run's scalars go besides its tables; needs none of the libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from switchnorm.errors import unknown

#: The module that is imported, by the name that configurations have; all but tensorboard are extras of the package.
LOGGERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def problems(names: Sequence[str]) -> Iterator[str]:
    """What is wrong with `train.loggers`."""
    for place, name in enumerate(names):
        if name not in LOGGERS:
            yield f"train.loggers: {unknown('logger', name, LOGGERS)}"
        elif name in names[:place]:
            yield f"train.loggers names {name} twice; leave one out"
