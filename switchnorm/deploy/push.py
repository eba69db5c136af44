"""Sharing a network: a folder with its card, and a repository of the Hugging Face Hub."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switchnorm.deploy.description import RAW_TASK, Description
from switchnorm.deploy.hub import Repository, check_upload, upload
from switchnorm.deploy.model_card import check_licence, model_card
from switchnorm.deploy.model_folder import FILES, WEIGHTS, check_folder, contents, write_folder
from switchnorm.errors import InputError
from switchnorm.files import given_path
from switchnorm.runs.reading import run_of

if TYPE_CHECKING:
    from torch import nn

    from switchnorm.runs.run import Run

#: How far what is read back may be from the network, over the largest output.
_ALLOWED = 1e-5
#: Sides of pictures on which both are compared, where nothing says which the network takes: the first that it does.
_SIDES = (224, 64, 32)


@dataclass(frozen=True)
class Pushed:
    """What became of a network.

    Attributes:
        folder: where its files are; None where they were only uploaded.
        url: of the commit on the hub; None where nothing was uploaded.
        description: what the files say of the network.
        remarks: what there is to say about them, in lines.
    """

    folder: Path | None
    url: str | None
    description: Description
    remarks: tuple[str, ...] = ()


def push(
    what: Any,
    name: str,
    *,
    to: str | os.PathLike[str] | None = None,
    private: bool = False,
    checkpoint: str | None = None,
    licence: str | None = None,
    message: str | None = None,
    force: bool = False,
    network: str | None = None,
    classes: Sequence[str] | None = None,
    description: Description | None = None,
) -> Pushed:
    """Share a network: `switchnorm.push("runs/flowers", "org/flowers")`, and everybody's `load("hf-hub:org/flowers")`.

    Written are README.md, a model card; config.json, which network it is and how it is used; and model.safetensors,
    the weights as they were trained. What is written is opened again and compared before anything is uploaded.

    Args:
        what: a run's folder, or one of its checkpoints; a `Net` of `switchnorm.load` that torch runs; or a network,
            switched or not, that `create_model`, timm or torchvision made.
        name: of the repository, "org/name", or "org/name@branch".
        to: a folder to write to; nothing is uploaded then.
        private: whether a new repository is seen by its owners alone.
        checkpoint: of a run's folder alone: best, last, epoch:N or a file; None for best.
        licence: as the hub writes it, such as "apache-2.0"; None leaves it open, which the card says.
        message: of the commit.
        force: whether files that are in `to` already are replaced.
        network: of a network that does not tell its name, what `create_model` calls it.
        classes: of a network, the names of its classes, in the order of its labels.
        description: of a network, what it is and how it is used; None for what its name tells.

    Raises:
        InputError: a name that is none, a network that no name makes again, with the reason, files that are there
            already, or what only an upload has where there is none; and of the upload a missing package, a token, or a
            hub that cannot be reached.
    """
    repository = Repository.parse(name)
    check_licence(licence)
    folder = Path() if to is None else Path(os.path.expanduser(given_path(to, "to")))
    if to is None:
        check_upload()
    else:
        _check_unsent(to, repository, private, message)
        check_folder(folder, force)
    model, about, run, remarks = _taken(what, checkpoint, network, classes, description)

    def card(written: Description) -> str:
        count = sum(parameter.numel() for parameter in model.parameters())
        return model_card(written, repository.name, run=run, licence=licence, parameters=count)

    files, written = contents(model, about, card)
    with tempfile.TemporaryDirectory(prefix="switchnorm-") as temporary:
        write_folder(Path(temporary), files)
        _check(Path(temporary) / WEIGHTS, model, written)
        if to is None:
            said = message or f"{written.source or 'a network'}, by switchnorm"
            url = upload(Path(temporary), repository, FILES, private=private, message=said)
            return Pushed(None, url, written, remarks)
    write_folder(folder, files)
    return Pushed(folder, None, written, remarks)


def _check_unsent(to: str | os.PathLike[str], repository: Repository, private: bool, message: str | None) -> None:
    """Raise `InputError` for what has no meaning where nothing is uploaded."""
    if not os.fspath(to):
        raise InputError("'' is no folder to write to; say '.' for this one")
    for given, name in (
        (private, "private"),
        (message is not None, "message"),
        (repository.revision is not None, f"@{repository.revision}"),
    ):
        if given:
            raise InputError(f"{name} is of an upload, and files that are written to a folder have none; leave it out")


def _taken(
    what: Any,
    checkpoint: str | None,
    network: str | None,
    classes: Sequence[str] | None,
    description: Description | None,
) -> tuple[nn.Module, Description, Run | None, tuple[str, ...]]:
    """The network, its description, the run that trained it, and what is to be said of these."""
    from torch import nn

    from switchnorm.deploy.load import load
    from switchnorm.deploy.net import Net
    from switchnorm.deploy.runtimes.network import NetworkRuntime

    if checkpoint is not None and not isinstance(what, str | os.PathLike):
        raise InputError(f"checkpoint {checkpoint!r} is one of a run's, and this is a network; leave it out")
    if isinstance(what, nn.Module):
        return *_of_module(what, network, classes, description), None, ()
    for given, argument in ((network, "network"), (classes, "classes"), (description, "description")):
        if given is not None:
            raise InputError(f"{argument} is for a network in memory; a run knows its own, so leave it out")
    if isinstance(what, Net):
        runtime = what.runtime
        if not isinstance(runtime, NetworkRuntime):
            raise InputError(f"{what.source} is a file of another runtime; push the run that it was exported from")
        remark = f"the card says nothing of the training, which {what.source} does not hold; push the run for that"
        return runtime.network, runtime.description, None, (remark,)
    if not isinstance(what, str | os.PathLike):
        raise InputError(
            f"push takes a run, a checkpoint of one, a Net or a torch.nn.Module, got {type(what).__name__}"
        )
    path = Path(os.path.expanduser(what))
    run = run_of(path)
    if run is not None and (checkpoint is None or run == path):
        return _of_run(run, path, checkpoint or "best")
    return _taken(load(what, checkpoint=checkpoint), None, None, None, None)


def _of_run(folder: Path, path: Path, checkpoint: str) -> tuple[nn.Module, Description, Run | None, tuple[str, ...]]:
    from switchnorm.deploy.networks import trained
    from switchnorm.runs.run import load_run

    found = trained(path, checkpoint)
    remarks = []
    try:
        run = load_run(folder)
    except InputError as error:
        run = None
        remarks.append(f"the card says nothing of the training: {error}")
    if run is not None and not run.finished:
        remarks.append(f"{run.name} has not come to its end; the card says after how many epochs it is")
    if found.description.preparation is None:
        remarks.append(
            f"dataset {found.config.data['name']!r} does not say as data how it shows pictures: whoever loads the "
            "network has to do that by hand"
        )
    return found.model, found.description, run, tuple(remarks)


def _of_module(
    model: nn.Module, network: str | None, classes: Sequence[str] | None, description: Description | None
) -> tuple[nn.Module, Description]:
    """A network in memory, with what its name tells of it where it is not described."""
    from switchnorm.deploy.describe import chosen
    from switchnorm.deploy.recognised import network_of

    entries = network_of(model, network or ((description and description.network) or {}).get("name"))
    if description is None:
        description = _known(entries)
    description = replace(description, network=entries, layers=description.layers or chosen(model))
    if classes is not None:
        description = replace(description, classes=_named(classes, entries.get("num_classes")))
    if description.task == RAW_TASK:
        warnings.warn(
            f"nothing says how pictures are shown to {entries['name']}: whoever loads it gives it arrays; say it by "
            "description=",
            stacklevel=3,
        )
    return model, description


def _named(classes: Sequence[str], count: Any) -> tuple[str, ...]:
    from switchnorm.text import canonical

    if isinstance(classes, str) or not all(isinstance(each, str) for each in classes):
        raise InputError(f"classes {classes!r:.80} are no names; give a list of them, in the order of the labels")
    if isinstance(count, int) and len(classes) != count:
        raise InputError(f"classes are {len(classes)}, and the network has {count}; name each of them")
    return tuple(map(canonical, classes))


def _known(network: dict[str, Any]) -> Description:
    """What the name of a network tells: of classifiers of timm and torchvision, how pictures are shown to them."""
    from switchnorm.data.preparation import Crop, Preparation
    from switchnorm.models import pictures_of, task_of

    name, task = network["name"], task_of(network["name"])
    pictures = pictures_of(name) if task == "classification" else None
    if pictures is None or pictures.size is None:
        return Description(raw=True)
    side = pictures.resize or round(pictures.size / (pictures.crop or 1.0))
    preparation = Preparation(
        Crop(side, pictures.size),
        tuple(255 * value for value in pictures.mean),
        tuple(255 * value for value in pictures.std),
        interpolation=pictures.interpolation,  # type: ignore[arg-type]
    )
    numbered = tuple(str(label) for label in range(network.get("num_classes") or 1000))
    return Description(task=task, classes=numbered, preparation=preparation, source=name)


def _check(path: Path, model: nn.Module, about: Description) -> None:
    """Raise `InputError` where the network that is read from a file answers otherwise than the one written."""
    import copy

    from switchnorm.deploy.adapters import adapted
    from switchnorm.deploy.checks import pictures
    from switchnorm.deploy.runtimes.network import NetworkRuntime
    from switchnorm.deploy.runtimes.safetensors_file import read
    from switchnorm.deploy.settled import image_channels

    ours, theirs = NetworkRuntime(copy.deepcopy(model).cpu(), about), read(path)
    channels = (image_channels(model) or 3) if about.preparation is None else about.preparation.channels
    rule = None if about.preparation is None else about.preparation.rule
    own = [size] if isinstance(size := getattr(rule, "size", None), int) else []
    failure: Exception | None = None
    for side in (*own, *_SIDES):
        images = pictures((2, channels, side, side), about.raw, 0)
        try:
            expected = ours(images)
        except Exception as error:  # the network's own, of any kind
            failure = failure or error
            continue
        apart = adapted(model, about).error(theirs(images), expected)
        if not apart <= _ALLOWED:
            raise InputError(
                f"{type(model).__name__} cannot be shared: made again by its name it answers otherwise, by {apart:.1e} "
                "of the largest output; it does something that neither its modules nor its weights show, such as hooks"
            )
        return
    raise InputError(f"{type(model).__name__} fails on pictures, so that it cannot be compared: {failure}")
