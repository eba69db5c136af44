"""Exporting: a network or a run as a file that other runtimes run."""

from __future__ import annotations

import copy
import hashlib
import inspect
import itertools
import os
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.deploy.adapters import Adapter, adapted, set_up, task_of
from switchnorm.deploy.calibration import calibration
from switchnorm.deploy.checks import check, check_int8, eager, pictures
from switchnorm.deploy.description import Description
from switchnorm.deploy.exported import Exported, ExportWarning
from switchnorm.deploy.formats import format_of
from switchnorm.deploy.job import Job
from switchnorm.deploy.packaged import Packaged
from switchnorm.deploy.runtimes.network import NetworkRuntime
from switchnorm.deploy.settled import Wanted, dimensions, multiple_of, settled, settled_channels, traced_size
from switchnorm.deploy.sizes import Shape, Tried, try_sizes
from switchnorm.errors import InputError
from switchnorm.files import check_free, given_path, part_of, remove, remove_parts, write_files, writing
from switchnorm.surgery.folding import plan_fold
from switchnorm.text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterable

#: On how many of the pictures of an 8-bit file's calibration it is checked.
_CHECKED = 32


def export(
    model_or_run: nn.Module | str | os.PathLike[str],
    path: str | os.PathLike[str],
    format: str | None = None,
    size: int | tuple[int, int] | None = None,
    dynamic: Iterable[str] | None = None,
    raw: bool = False,
    half: bool = False,
    int8: Any = None,
    description: Description | None = None,
    *,
    channels: int | None = None,
    checkpoint: str | None = None,
    force: bool = False,
    warn: bool = True,
) -> Exported:
    """Write a network as a file that another runtime runs: folded, with its preprocessing, and checked there.

    The file takes "images", (N, C, H, W) uint8, red, green and blue, and gives "logits" of a classifier (N, K) or of a
    network for segmentation (N, K, h, w), a detector's "boxes", "labels" and "scores", or what else a network returns.
    It says of itself what it is. It is run in its own runtime on images of three shapes, and kept only where it gives
    what the network gives.

    Args:
        model_or_run: a network, which stays as it is; or a run's folder, or a checkpoint of one.
        path: of the file.
        format: one of `switchnorm.deploy.formats.FORMATS`; None for that of the path's suffix.
        size: of images in pixels, a side or (height, width); None for what the run's evaluation shows, timm says, or
            224.
        dynamic: which of "batch", "height" and "width" stay open; None for the batch, and for all three where
            evaluation shows pictures of many sizes, as far as the format has open dimensions.
        raw: whether the file takes what the network takes, float32, instead of 8-bit pixels; always where nobody has
            said how pictures are prepared.
        half: whether to keep 16-bit floating point numbers.
        int8: pictures by which scales of 8-bit numbers are chosen: files, folders, pictures of Pillow, arrays as
            `Preparation` takes them, or one of these; without a preparation arrays (C, H, W) as the network takes them.
        description: of a network: its task, classes and preparation; a run has its own.
        channels: C of a network whose first convolution does not tell.
        checkpoint: of a run's folder alone: best, last, epoch:N or a file; None for best.
        force: whether to replace a file.
        warn: whether to warn of what was decided, which the returned `notes` have too.

    Returns:
        What was written. Its text has the command to go on with.

    Raises:
        InputError: arguments that are impossible, packages that are missing, or a network that the format cannot
            express or computes otherwise. Then nothing is written.
    """
    path = given_path(path, "path")
    chosen = format_of(path, format)
    dynamic = dimensions(dynamic)
    given = {"raw": raw, "half": half, "int8": int8 is not None, "dynamic": bool(dynamic)}
    if half and int8 is not None:
        raise InputError("half and int8 are two ways to keep numbers; leave one of them out")
    chosen.check_arguments([name for name, is_given in given.items() if is_given])
    writer, opener = chosen.write, chosen.open
    for file in chosen.files(path):
        check_free(file, force)
    network, about = _network(model_or_run, description, checkpoint)
    _check_input(network)
    notes: list[str] = []
    network = _evaluated(network, notes)
    set_up(network, about)
    adapter = adapted(network, about)
    about = settled(adapter, about, chosen, Wanted(size, dynamic, raw, half, int8 is not None), notes)
    shown = None if int8 is None else calibration(int8, about, notes)
    reference, tried = _tried(adapter, about, channels)
    if tried.step > multiple_of(about):
        notes.append(f"height and width must be multiples of {tried.step}")
    package, counts = reference, dict[str, int]()
    if chosen.folds:
        package, counts = _folded(network, about, reference)
        about = replace(about, folded=True)
    images, answers = [list(found) for found in zip(*tried.found, strict=True)]
    job = Job(
        source=network,
        network=package,
        example=torch.from_numpy(images[0]),
        dynamic=about.dynamic,
        description=about,
        checksum=_checksum(network),
        half=half,
        calibration=shown,
    )
    name = f"{path.name}.export"  # a folder, under which each file has the name that it is to have
    folder = part_of(path.with_name(name))
    remove_parts(path.parent, name)
    try:
        beside = folder / path.name
        with writing(path):
            folder.mkdir()
            writer(job, beside)
        runtime = opener(beside)
        if shown is None:
            checks = check(runtime, reference, images, answers, half=half)
        else:
            checks, said = check_int8(runtime, reference, shown[:: -(-len(shown) // _CHECKED)])
            notes += [f"8 bits by {len(shown)} pictures" + (f"; {said}" if said else "")]
        del runtime
        moved = {file: lambda part, file=file: os.replace(folder / file.name, part) for file in chosen.files(path)}
        write_files(moved)
    except InputError as error:
        raise InputError(str(error).replace(f"{folder}{os.sep}", f"{path.parent}{os.sep}")) from error
    finally:
        remove(folder)
    for note in notes if warn else ():
        warnings.warn(note, ExportWarning, stacklevel=2)
    return Exported(
        path,
        tuple(chosen.files(path)),
        chosen,
        about,
        package.outputs,
        checks,
        images[0].shape[1],
        counts,
        tuple(notes),
    )


def _network(
    what: nn.Module | str | os.PathLike[str], description: Description | None, checkpoint: str | None
) -> tuple[nn.Module, Description]:
    """The network, and what is known of it."""
    if isinstance(what, nn.Module):
        if checkpoint is not None:
            raise InputError(f"checkpoint {checkpoint!r} is of a run, and a network has its weights; leave it out")
        return what, description or Description(task=task_of(what))
    from switchnorm.deploy.load import load

    if description is not None:
        raise InputError("description is of a network, and a run has its own; leave it out")
    runtime = load(what, checkpoint=checkpoint).runtime
    if not isinstance(runtime, NetworkRuntime):
        raise InputError(f"{str(what)!r} has been exported already; give the run, or the weights, that it is of")
    return runtime.network, runtime.description


def _check_input(network: nn.Module) -> None:
    """Raise `InputError` for a network of something else than one batch of pictures."""
    name, way = type(network).__name__, "take torch.onnx.export or torch.export.export of switchnorm.fold(network)"
    convs = {len(module.kernel_size) for module in network.modules() if isinstance(module, _ConvNd)}
    if convs and 2 not in convs:
        of = " and ".join(f"{dims}d" for dims in sorted(convs))
        raise InputError(f"export writes networks of pictures, and {name} has {of} convolutions alone; {way}")
    needed = [
        each.name
        for each in inspect.signature(network.forward).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise InputError(f"export writes networks of one input, and {name} takes {' and '.join(needed)}; {way}")


def _evaluated(network: nn.Module, notes: list[str]) -> nn.Module:
    """A copy of the network in evaluation mode, on the CPU, in 32-bit numbers."""
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise InputError(f"{name} of the network is lazy and not initialised; run a batch first")
        if value.is_meta:
            raise InputError(f"{name} is on the meta device and has no values; load weights before exporting")
    kinds = {each.dtype for each in (*network.parameters(), *network.buffers()) if each.is_floating_point()}
    others = sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32})
    if others:
        notes.append(f"its {' and '.join(others)} numbers became float32")
    try:
        twin = copy.deepcopy(network)
    except Exception as error:  # a network of others may hold anything
        raise InputError(f"the network cannot be copied: {first_line(error)}") from error
    return twin.cpu().float().eval().requires_grad_(False)


def _tried(
    adapter: Adapter, about: Description, channels: int | None
) -> tuple[Packaged, Tried[tuple[np.ndarray, dict[str, np.ndarray]]]]:
    """The network as it was given, packaged, and what it gives for images of three shapes."""
    preparation = None if about.raw else about.preparation
    reference = Packaged(adapter, (), preparation)
    seeds = itertools.count()

    def run(shape: Shape) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        images = pictures(shape, about.raw, seed=next(seeds))
        found = eager(reference, images)
        adapter.check(found, about)
        return images, found

    multiple = multiple_of(about)
    tried = try_sizes(
        run, settled_channels(adapter, about, channels), traced_size(adapter, about), about.dynamic, multiple
    )
    return Packaged(adapter, tuple(tried.found[0][1]), preparation), tried


def _folded(network: nn.Module, about: Description, reference: Packaged) -> tuple[Packaged, dict[str, int]]:
    """The network folded and packaged, and how many normalizations became what."""
    open_sides = {"height", "width"} & set(about.dynamic)
    plan = plan_fold(network, None if open_sides else about.size)
    preparation = None if about.raw else about.preparation
    package = Packaged(adapted(plan.apply(), about), reference.outputs, preparation, any_size=bool(open_sides))
    return package, dict(plan.counts)


def _checksum(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
