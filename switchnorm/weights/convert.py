"""Published checkpoints as safetensors that say what they are, and back into files that the published code loads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from switchnorm import __version__
from switchnorm.errors import InputError
from switchnorm.weights.card import Card
from switchnorm.weights.checkpoint import CheckpointFile, read_checkpoint
from switchnorm.weights.identity import check_identity, file_md5, identify
from switchnorm.weights.importance import layer_statistics
from switchnorm.weights.layout import published_shapes, switchable_prefixes, to_ours, to_published
from switchnorm.weights.metadata import Metadata
from switchnorm.weights.published import PUBLISHED, Checkpoint, published
from switchnorm.weights.recognise import class_count, norm_of, recognise
from switchnorm.weights.writing import check_free, write_whole

_TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar")
_NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked", "radius", "mean_fixed", "var_fixed")


def convert(path: str | Path, out: str | Path, name: str | None = None, force: bool = False) -> Card:
    """Convert a checkpoint file.

    Args:
        path: a checkpoint of any format, see `switchnorm.weights.read_state`: published, or of a run.
        out: OUT.safetensors takes this library's layout, with the card beside it as OUT.json; OUT.pth, OUT.pt or
            OUT.pth.tar takes the published one, as a file that PyTorch of the papers' time reads too.
        name: which of `switchnorm.weights.PUBLISHED` the file is; None finds out by its sum and its name.
        force: whether to replace existing files.

    Returns:
        The card.

    Raises:
        InputError: no readable checkpoint, not the one it should be, or nowhere to write. Nothing is written then.
    """
    path, out = Path(path), Path(out)
    to_safetensors = out.suffix == ".safetensors"
    if not to_safetensors and not out.name.endswith(_TORCH_SUFFIXES):
        raise InputError(f"{str(out)!r} has an unknown suffix; choose .safetensors, {', '.join(_TORCH_SUFFIXES)}")
    card_file = out.with_suffix(".json")
    for target in (out, card_file) if to_safetensors else (out,):
        check_free(target, force)
        if target.exists() and path.exists() and target.samefile(path):
            raise InputError(f"{str(path)!r} cannot become itself; choose another name")
    file = read_checkpoint(path)
    state, reshaped = to_ours(_dense(path, file.state))
    metadata, verified = _metadata(path, file, state, reshaped, name)
    dropped = list(file.beside)
    if to_safetensors:
        written, prefix = state, ""
    else:
        written, counters = to_published(state, metadata.shapes)
        container, prefix = _container(metadata, state)
        dropped += counters
    card = _card(file, state, metadata, verified, dropped)
    changed = [key for key, value in written.items() if value.shape != file.state[key].shape]
    card = replace(card, reshaped=len(changed), removed_prefix="" if prefix == file.prefix else file.prefix)
    if to_safetensors:
        _write_safetensors(out, card_file, written, metadata, card)
    else:
        _write_torch(out, {prefix + key: value for key, value in written.items()}, container)
    return card


def _dense(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, for neither format has a use for what else a file's storages hold."""
    for key, value in state.items():
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise InputError(f"{str(path)!r} holds {key} as no plain tensor of numbers; save it dense and unquantized")
    return {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in state.items()}


def _metadata(
    path: Path, file: CheckpointFile, state: Mapping[str, Tensor], reshaped: list[str], name: str | None
) -> tuple[Metadata, bool]:
    """What is known of the file, and whether its sum is the published one."""
    recorded = file.metadata
    md5 = file_md5(path)
    known = _recorded(path, recorded, name) if recorded.md5 else identify(path, md5, name)
    if known is not None:
        check_identity(path, state, known)
        found = replace(recorded, network=known.network, norm=known.norm, statistics=known.statistics)
        found = replace(found, name=known.name, source=known.source, top1=known.top1, top5=known.top5)
    else:
        network = recognise(state)
        found = replace(
            recorded,
            network=network.network if network else recorded.network,
            norm=norm_of(state) or recorded.norm,
            statistics=_common_statistics(state, recorded.statistics),
        )
    found = replace(found, md5=recorded.md5 or md5, order=tuple(state))
    own = "model." in file.prefix or (bool(switchable_prefixes(state)) and not reshaped)
    if recorded.md5 is None and not own and file.format != "safetensors":
        usual = published_shapes(state)
        saved = {key: tuple(value.shape) for key, value in file.state.items()}
        exceptions = {key: shape for key, shape in saved.items() if usual.get(key, shape) != shape}
        found = replace(found, container=file.container, prefix=file.prefix, shapes=exceptions)
    return found, known is not None and found.md5 == known.md5


def _recorded(path: Path, recorded: Metadata, name: str | None) -> Checkpoint | None:
    """The published checkpoint that a converted file names, whose sum was compared when it was converted."""
    if recorded.name is None:
        return None if name is None else identify(path, str(recorded.md5), name)
    if name not in (None, recorded.name):
        raise InputError(f"{str(path)!r} says that it is {recorded.name}, not {name}; leave out --name")
    return published(recorded.name)


def _common_statistics(state: Mapping[str, Tensor], recorded: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What all switchable layers mix, None if there are none or they differ or nobody knows."""
    found = {layer_statistics(state, prefix, recorded) for prefix in switchable_prefixes(state)}
    return found.pop() if len(found) == 1 and not any("statistic " in s for each in found for s in each) else None


def _container(metadata: Metadata, state: Mapping[str, Tensor]) -> tuple[str, str]:
    """The entry of a training checkpoint and the prefix that the published code expects, if the file had no others."""
    if metadata.container is not None and metadata.prefix is not None:
        return metadata.container, metadata.prefix
    if not switchable_prefixes(state) and metadata.network in {c.network for c in PUBLISHED if c.norm == "gn+ws"}:
        return "", "module."
    return "state_dict", ""


def _card(
    file: CheckpointFile, state: Mapping[str, Tensor], metadata: Metadata, verified: bool, dropped: list[str]
) -> Card:
    parameters = (value.numel() for key, value in state.items() if key.rsplit(".", 1)[-1] not in _NO_PARAMETERS)
    return Card(
        name=metadata.name,
        network=metadata.network,
        norm=metadata.norm,
        statistics=metadata.statistics,
        num_classes=class_count(state) if metadata.network else None,
        top1=metadata.top1,
        top5=metadata.top5,
        source=metadata.source,
        md5=str(metadata.md5),
        verified=verified,
        keys=len(state),
        parameters=sum(parameters),
        removed_prefix=file.prefix,
        reshaped=0,
        dropped=tuple(dropped),
        format=file.format,
        switchnorm=__version__,
    )


def _write_safetensors(out: Path, beside: Path, state: dict[str, Tensor], metadata: Metadata, card: Card) -> None:
    def write(target: Path) -> None:
        try:
            content = save(state, metadata.write(__version__))
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"{str(out)!r} cannot be written: {str(error).splitlines()[0]}") from error
        # Not by safetensors, whose files nobody else may read.
        target.write_bytes(content)

    def describe(target: Path) -> None:
        target.write_text(card.to_json())

    write_whole({out: write, beside: describe})


def _write_torch(out: Path, state: Mapping[str, Tensor], container: str) -> None:
    content = OrderedDict(state)
    value = {container: content} if container else content
    # PyTorch before 1.6, which the published code was written for, reads no other format.
    write_whole({out: lambda target: torch.save(value, target, _use_new_zipfile_serialization=False)})
