"""Predicting unlabelled pictures: a network's answers as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.data.files.remarks import Remarks
from switchnorm.deploy.answering.base import Answering
from switchnorm.deploy.given import found_pictures
from switchnorm.deploy.net import Net, answered
from switchnorm.errors import InputError
from switchnorm.files import writing
from switchnorm.processes import world_size

if TYPE_CHECKING:
    from torch import nn

    from switchnorm.classes import Classes
    from switchnorm.config.schema import Config


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


def predict_into(net: Net, pictures: Sequence[Path], out: Path, settings: Mapping[str, Any] | None = None) -> Predicted:
    """Write what a network says about each picture, see its task's `AnswerFiles`.

    Args:
        net: the network.
        pictures: files, and folders of which every picture is taken.
        out: the folder to write to; files of these names are replaced, but none of the pictures.
        settings: as of `Net.predict`.

    Returns:
        What became of them; one that cannot be read stops none of the others.

    Raises:
        InputError: a task that predicts nothing, settings that it does not have, a picture that is missing, shares its
            name with another or would be replaced; before anything is written.
    """
    if world_size() > 1:
        raise InputError("predict takes one process; start it without torchrun")
    answering = net.answering(settings or {})
    found, left_out = found_pictures(list(pictures))
    files = [file for file in found if isinstance(file, Path)]
    _check_written(files, answering, out)
    made_here = not out.exists()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    written = answering.files(files, out)
    noticed, remarks, failed = Remarks("pictures", len(files)), list[str](), dict[Path, str]()
    for each in answered(answering, files, noticed):
        if each.answer is None or each.picture is None:
            failed[files[each.place]] = each.failure
            continue
        remarks += each.remarks
        written.add(each.place, each.picture, each.answer)
    lines = *left_out, *remarks, *noticed.unsaid(), *written.finish()
    if made_here and not any(out.iterdir()):
        out.rmdir()
    return Predicted(len(files) - len(failed), written.title, lines, failed)


def predict_pictures(
    config: Config,
    load: Callable[[nn.Module], object],
    pictures: Sequence[Path],
    out: Path,
    classes: Classes | None = None,
) -> Predicted:
    """As `predict_into`, with a network that a configuration and weights make.

    Args:
        config: of a run, or of weights: the network, and the dataset that knows the classes.
        load: gives the network its weights.
        pictures, out: as `predict_into`.
        classes: of the network; None where only the dataset knows them.

    Raises:
        InputError: as `predict_into`, or weights of another network.
    """
    from switchnorm.deploy.networks import made
    from switchnorm.training.network import check_device

    check_device(config)
    return predict_into(made(config, load, classes).net("the network"), pictures, out)


def _check_written(files: Sequence[Path], answering: Answering, out: Path) -> None:
    """Raise `InputError` where what is written for a picture would replace another's, or a picture."""
    writes = answering.writes
    own = {file.resolve() for file in files}
    owners: dict[Path, Path] = {}
    for file in files:
        for path in writes.written(file, out):
            other = owners.setdefault(path, file)
            if other is not file:
                raise InputError(
                    f"{str(other)!r} and {str(file)!r} would share the {writes.noun} {path.name}; rename one"
                )
            if path.resolve() in own:
                raise InputError(
                    f"picture {str(path)!r} would be replaced; write to another folder than its own with --out"
                )
