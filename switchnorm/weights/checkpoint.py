"""Reading checkpoint files without running code from them, and loading them with an account of what does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from switchnorm.classes import Classes, classes_in
from switchnorm.errors import InputError
from switchnorm.files import given_path
from switchnorm.layers.arguments import check_model
from switchnorm.weights.coco import in_use
from switchnorm.weights.detectron import NAME as DETECTRON
from switchnorm.weights.detectron import is_detectron, to_ours
from switchnorm.weights.formats import Content, read_content
from switchnorm.weights.metadata import Metadata
from switchnorm.weights.pair import PARTS, check_two_files, joined
from switchnorm.weights.tensors import NoPlainTensor
from switchnorm.weights.values import check_values

# How training systems wrap a network: DataParallel, our own runs, torch.compile.
_WRAPPERS = ("module.", "model.", "_orig_mod.")
# Where training checkpoints hold the network: Lightning and most others, torchvision's scripts, PyTorch's tutorials.
_CONTAINERS = ("state_dict", "model", "model_state_dict")
#: Where a run's own checkpoints have the weights that it goes on with, where "state_dict" has their average.
TRAINED = "trained_state_dict"
#: What the geometry of boxes is called that published detectors were trained with.
PUBLISHED_BOXES = "published"
# From what CSAILVision's synchronised Batch Norm computes its running statistics, which the files hold beside them.
_SUMS = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file as it was read.

    Attributes:
        state: tensors by key, on the CPU, without `prefix`.
        format: how it was written, see `switchnorm.weights.formats`.
        container: the entry of a training checkpoint that held the state, such as "state_dict"; "" where the file is
            the state.
        beside: names of entries that are not used: those of the training checkpoint beside the state, and in the state
            the sums from which synchronised Batch Norm of CSAILVision/semantic-segmentation-pytorch makes its averages,
            and counters of wrappers.
        prefix: what training wrappers had put before every key, for example "module.".
        metadata: what `switchnorm convert` recorded of the file's origin.
        classes: what the network tells apart, in the order of its labels; None where the file does not say it.
    """

    state: dict[str, Tensor]
    format: str
    container: str
    beside: tuple[str, ...]
    prefix: str
    metadata: Metadata
    classes: Classes | None = None


def read_checkpoint(path: str | Path) -> CheckpointFile:
    """Read a checkpoint file of any format, see `read_state`, with what is known of it.

    Raises:
        InputError: as `read_state`.
    """
    path = given_path(path, "checkpoint")
    return as_checkpoint(read_content(path), path)


def as_checkpoint(file: Content, path: Path) -> CheckpointFile:
    """The network in what was read, as `read_checkpoint`; `path` is the file's."""
    content = _entries(file.value)
    container = next((name for name in _CONTAINERS if _is_state(_entries(content.get(name)))), "")
    state = _entries(content[container]) if container else content
    if not _is_state(state):
        raise InputError(f"checkpoint {str(path)!r} holds no state dict; expected tensors by name{_nearest(content)}")
    special = next((key for key, value in state.items() if isinstance(value, NoPlainTensor)), None)
    if special is not None:
        raise InputError(
            f"checkpoint {str(path)!r} holds {special} as no plain tensor of numbers; save it dense and unquantized"
        )
    unprintable = next((key for key in state if not key.isprintable()), None)
    if unprintable is not None:
        raise InputError(f"checkpoint {str(path)!r} has a key that cannot be printed, {unprintable!r:.100}")
    counters = _counters(state)
    prefix = _prefix([key for key in state if key not in counters])
    state = {key.removeprefix(prefix): value for key, value in state.items() if key not in counters}
    beside = [str(key) for key in content if key != container] if container else []
    _say_alike({name: _entries(content.get(name)) for name in beside}, state, container, path)
    beside += counters
    sums = [key for key in state if key.endswith(_SUMS) and f"{key.rpartition('.')[0]}.running_mean" in state]
    beside += sums
    state = {key: value for key, value in state.items() if key not in set(sums)}
    metadata = Metadata.read(file.metadata, state, path)
    classes = _classes(content, path) if container else metadata.classes
    return CheckpointFile(metadata.in_order(state), file.format, container, tuple(beside), prefix, metadata, classes)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU.

    Args:
        path: a safetensors file, or what any version of torch.save wrote: a state dict, or a training checkpoint that
            holds one under "state_dict", "model" or "model_state_dict". Prefixes that training wrappers gave to every
            key are taken off, and so are sums beside the running statistics that are made of them, see
            `CheckpointFile.beside`.

    Raises:
        InputError: no such file, or one that holds no state dict or would have to run code to be read.
    """
    return read_checkpoint(path).state


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `model` completely, or change nothing.

    Args:
        model: the network.
        state: tensors by key; layouts of the published layers are understood.
        source: what to call the state in an error, for example the file's name.

    Raises:
        InputError: keys missing, unexpected or of another shape, each listed; or numbers that `check_values` refuses.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    check_values(state, before, source)
    problems: list[str] = []
    try:
        result = model.load_state_dict(dict(state), strict=False)
        problems += _listed("missing", result.missing_keys) + _listed("unexpected", result.unexpected_keys)
    except RuntimeError as error:
        # torch stops at entries of another shape; compare them all.
        problems += _listed("missing", [k for k in before if k not in state and not k.endswith("num_batches_tracked")])
        problems += _listed("unexpected", [k for k in state if k not in before])
        other = [k for k in before if k in state and before[k].numel() != state[k].numel()]
        shapes = [f"{k} {tuple(state[k].shape)} for {tuple(before[k].shape)}" for k in other]
        problems += _listed("of another shape", shapes) or [str(error).splitlines()[-1].strip()]
    if problems:
        model.load_state_dict(before)
        raise InputError(f"{source} does not fit {type(model).__name__}: " + "; ".join(problems))


def load_published(model: nn.Module, path: str | Path, decoder: str | Path | None = None) -> nn.Module:
    """Load a published checkpoint (or any other) into `model`, strictly; returns the model.

    Args:
        model: the network; the published detectors' entries may have their authors' names, see
            `switchnorm.weights.detectron`. A detector for COCO's 80 classes takes torchvision's files too, of whose
            90 numbers the 80 in use are taken. A warning says where published weights meet another geometry of boxes
            than theirs.
        path: the file; with `decoder`, that of the encoder, whose keys begin as the encoder's own.
        decoder: the decoder's file, where a network for segmentation was published as two.

    Raises:
        InputError: as `read_state` and `load_state`; two files for a network without encoder and decoder.
    """
    check_model("load_published", model)
    if decoder is None:
        file = read_checkpoint(path)
        theirs = is_detectron(file.state)
        load_state(
            model,
            in_use(to_ours(file.state) if theirs else file.state, model.state_dict()),
            f"checkpoint {str(path)!r}",
        )
        geometry = getattr(getattr(model, "geometry", None), "name", PUBLISHED_BOXES)
        if (theirs or file.metadata.names == DETECTRON) and geometry != PUBLISHED_BOXES:
            warnings.warn(
                f"checkpoint {str(path)!r} was trained with boxes {PUBLISHED_BOXES!r}, and this network has "
                f"{geometry!r}, by which it detects worse; create it with boxes={PUBLISHED_BOXES!r}, unless it is "
                "trained on",
                stacklevel=2,
            )
        return model
    if not all(isinstance(getattr(model, part, None), nn.Module) for part in PARTS):
        raise InputError(f"{type(model).__name__} has no encoder and decoder; load one file")
    check_two_files(path, decoder)
    source = f"checkpoint {str(path)!r} with decoder {str(decoder)!r}"
    load_state(model, joined(read_state(path), read_state(decoder), source), source)
    return model


def _classes(content: Mapping[Any, Any], path: Path) -> Classes | None:
    """What a checkpoint of a run calls its classes; another system may mean something else by that entry."""
    try:
        return classes_in(content, f"checkpoint {str(path)!r}")
    except InputError:
        if "training_metrics" in content:
            raise
        return None


def _is_state(entries: Mapping[Any, Any]) -> bool:
    tensors = Tensor | NoPlainTensor
    return bool(entries) and all(isinstance(key, str) and isinstance(value, tensors) for key, value in entries.items())


def _entries(value: Any) -> dict[Any, Any]:
    """The entries of a dictionary, byte keys of Python 2 as text; {} for anything else."""
    if not isinstance(value, dict):
        return {}
    # Not value.items: a pickle may set an attribute `items` on its OrderedDict.
    return {key.decode("latin1") if isinstance(key, bytes) else key: item for key, item in dict.items(value)}


def _prefix(keys: Sequence[str]) -> str:
    """What wrappers, one inside another, put before every key."""
    found = ""
    while keys and (wrapper := next((w for w in _WRAPPERS if all(key.startswith(found + w) for key in keys)), "")):
        found += wrapper
    return found


def _counters(state: Mapping[str, Tensor]) -> list[str]:
    """The wrappers' own numbers beside the entries that they put a name before, as `n_averaged` of `AveragedModel`."""
    own = [key for key, t in state.items() if "." not in key and t.numel() == 1 and not t.is_floating_point()]
    others = [key for key in state if key not in own]
    return own if others and _prefix(others) else []


def _nearest(content: Mapping[Any, Any]) -> str:
    """Which entries of a file hold a state dict under names that say too little."""
    names = [str(name) for name, value in content.items() if _is_state(_entries(value))]
    return f"; its entry {names[0]!r} holds some, save that alone" if names else ""


def _say_alike(beside: Mapping[str, dict[Any, Any]], state: Mapping[str, Tensor], container: str, path: Path) -> None:
    """Warn of entries beside the state that are one of the same network, as averages of the weights are."""
    for name, other in beside.items():
        if name == TRAINED or not _is_state(other):
            continue
        prefix = _prefix(list(other))
        if 2 * len(state.keys() & {key.removeprefix(prefix) for key in other}) > len(state):
            warnings.warn(
                f"checkpoint {str(path)!r} has weights under {container!r}, which are taken, and under {name!r}, which "
                "are not; for these save that entry alone",
                stacklevel=4,
            )


def _listed(what: str, names: list[str], most: int = 8) -> list[str]:
    if not names:
        return []
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return [f"{len(names)} {what} ({', '.join(names[:most])}{more})"]
