"""Predicting unlabelled pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytorch_lightning as pl
from torch import nn

from switchnorm.classes import Classes
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task, loaded, tasks
from switchnorm.data import Dataset
from switchnorm.data.files.listing import pictures_below
from switchnorm.errors import InputError
from switchnorm.processes import world_size
from switchnorm.training.build import build_model, check_device, check_task, dataset_of, make_task
from switchnorm.training.trainer import make_trainer


class Batches(Sized, Protocol):
    """What `Task.predict_step` takes, one after the other."""

    def __iter__(self) -> Iterator[Any]: ...


class Predictor(Protocol):
    """How a task predicts pictures: how they are read, and what is written for each.

    Attributes:
        noun: what is written, "mask".

    Args:
        dataset: of the run; its data is not read.
        files: the pictures.
        out: the folder to write to.
    """

    noun: ClassVar[str]

    def __init__(self, dataset: Dataset, files: Sequence[Path], out: Path) -> None: ...

    @staticmethod
    def written(file: Path, out: Path) -> tuple[Path, ...]:
        """The files that are written for a picture."""
        ...

    @property
    def batches(self) -> Batches:
        """The pictures as the task takes them."""
        ...

    @property
    def writer(self) -> pl.Callback:
        """Writes what the task predicts."""
        ...


def predict_pictures(
    config: Config,
    load: Callable[[nn.Module], object],
    pictures: Sequence[Path],
    out: Path,
    classes: Classes | None = None,
) -> int:
    """Write what a network predicts for each picture, see its task's `Predictor`.

    Args:
        config: of a run, or of weights: the network, and the dataset that knows the classes.
        load: gives the network its weights.
        pictures: files, and folders of which every picture is taken.
        out: the folder to write to; files of these names are replaced, but none of the pictures.
        classes: of the network; None where only the dataset knows them.

    Returns:
        How many pictures there were.

    Raises:
        InputError: a task that predicts nothing, a picture that is missing, damaged, shares its name with another
            or would be replaced, or weights of another network. What was written before a damaged one is there.
    """
    make: type[Predictor] | None = loaded(find_task(config.task).predictor)
    if make is None:
        able = " or ".join(task.name for task in tasks().values() if task.predictor is not None)
        raise InputError(f"predict writes what {able} predicts, and this network is for {config.task}")
    if world_size() > 1:
        raise InputError("predict takes one process; start it without torchrun")
    files = _found(pictures, make, out)
    check_device(config)
    check_task(config)
    dataset = dataset_of(config, classes)
    model = build_model(config, dataset.num_classes)
    load(model)
    task = make_task(config, model, dataset.num_classes)
    out.mkdir(parents=True, exist_ok=True)
    predictor = make(dataset, files, out)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    with make_trainer(config.train, callbacks=[predictor.writer], **options) as trainer:
        trainer.predict(task, predictor.batches, return_predictions=False)
    return len(files)


def _found(places: Sequence[Path], make: type[Predictor], out: Path) -> list[Path]:
    """The pictures, with those in folders; raise `InputError` where an output would replace another or a picture."""
    files: dict[str, Path] = {}
    for place in places:
        inside = [Path(path) for path in pictures_below(place)] if place.is_dir() else [place]
        if not inside:
            raise InputError(f"folder {str(place)!r} holds no pictures")
        for file in inside:
            if not file.is_file():
                raise InputError(f"picture {str(file)!r} is missing; expected a file or a folder of files")
            other = files.setdefault(file.stem, file)
            if other.resolve() != file.resolve():
                shared = make.written(file, out)[0].name
                raise InputError(f"{str(other)!r} and {str(file)!r} would share the {make.noun} {shared}; rename one")
    own = {file.resolve() for file in files.values()}
    written = (path for file in files.values() for path in make.written(file, out))
    replaced = next((path for path in written if path.resolve() in own), None)
    if replaced is not None:
        raise InputError(
            f"picture {str(replaced)!r} would be replaced; write to another folder than its own with --out"
        )
    return list(files.values())
