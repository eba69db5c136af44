"""Predicting unlabelled pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from switchnorm.classes import Classes
from switchnorm.config.schema import Config
from switchnorm.config.task_spec import find_task, loaded, tasks
from switchnorm.data.files.walk import EXTENSIONS, find_files, told
from switchnorm.errors import InputError
from switchnorm.files import writing
from switchnorm.processes import world_size
from switchnorm.tasks.predictor import Predictor
from switchnorm.training.build import build_model, check_device, check_task, make_task
from switchnorm.training.network import dataset_of
from switchnorm.training.trainer import make_trainer


@dataclass(frozen=True)
class Predicted:
    """What became of pictures.

    Args:
        count: how many were predicted.
        title: what was written of them, "masks and overlays".
        lines: what is to be said: about single pictures, and what was found.
        failed: those that could not be predicted, and why.
    """

    count: int
    title: str
    lines: tuple[str, ...]
    failed: dict[Path, str]


def predict_pictures(
    config: Config,
    load: Callable[[nn.Module], object],
    pictures: Sequence[Path],
    out: Path,
    classes: Classes | None = None,
) -> Predicted:
    """Write what a network predicts for each picture, see its task's `Predictor`.

    Args:
        config: of a run, or of weights: the network, and the dataset that knows the classes.
        load: gives the network its weights.
        pictures: files, and folders of which every picture is taken.
        out: the folder to write to; files of these names are replaced, but none of the pictures.
        classes: of the network; None where only the dataset knows them.

    Returns:
        What became of them; one that cannot be read stops none of the others.

    Raises:
        InputError: a task that predicts nothing, a picture that is missing, shares its name with another or would be
            replaced, or weights of another network; before anything is written.
    """
    make: type[Predictor] | None = loaded(find_task(config.task).predictor)
    if make is None:
        able = " or ".join(task.name for task in tasks().values() if task.predictor is not None)
        raise InputError(f"predict writes what {able} predicts, and this network is for {config.task}")
    if world_size() > 1:
        raise InputError("predict takes one process; start it without torchrun")
    files, left_out = _found(pictures)
    _check_written(files, make, out)
    check_device(config)
    check_task(config)
    dataset = dataset_of(config, classes)
    model = build_model(config, dataset.num_classes)
    load(model)
    task = make_task(config, model, dataset.num_classes)
    made_here = not out.exists()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    predictor = make(dataset, files, out)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    with make_trainer(config.train, callbacks=[predictor], **options) as trainer:
        trainer.predict(task, predictor, return_predictions=False)
    lines = *left_out, *predictor.remarks, *predictor.noticed.unsaid(), *predictor.finish()
    if made_here and not any(out.iterdir()):
        out.rmdir()
    return Predicted(len(files) - len(predictor.failed), predictor.title, lines, predictor.failed)


def _found(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The pictures, each once, with those in folders, and what folders hold besides, in words."""
    files: dict[Path, Path] = {}
    left_out = []
    for place in places:
        inside = [place]
        if place.is_dir():
            below = find_files(place, EXTENSIONS)
            left_out.append(told(str(place), below.left_out))
            inside = [Path(path) for path in below.paths]
        if not inside:
            raise InputError(f"folder {str(place)!r} holds no pictures")
        for file in inside:
            if not file.is_file():
                raise InputError(f"picture {str(file)!r} is missing; expected a file or a folder of files")
            files.setdefault(file.resolve(), file)
    return list(files.values()), [line for line in left_out if line]


def _check_written(files: Sequence[Path], make: type[Predictor], out: Path) -> None:
    """Raise `InputError` where what is written for a picture would replace another's, or a picture."""
    own = {file.resolve() for file in files}
    owners: dict[Path, Path] = {}
    for file in files:
        for path in make.written(file, out):
            other = owners.setdefault(path, file)
            if other is not file:
                raise InputError(
                    f"{str(other)!r} and {str(file)!r} would share the {make.noun} {path.name}; rename one"
                )
            if path.resolve() in own:
                raise InputError(
                    f"picture {str(path)!r} would be replaced; write to another folder than its own with --out"
                )
