"""Published checkpoints as safetensors that say what they are, and back into files that the published code loads."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from switchnorm import __version__
from switchnorm.errors import InputError
from switchnorm.files import check_free, write_files
from switchnorm.weights import detectron
from switchnorm.weights.card import Card
from switchnorm.weights.checkpoint import CheckpointFile, read_checkpoint
from switchnorm.weights.identity import check_identity, check_network, file_md5, identify
from switchnorm.weights.importance import layer_statistics
from switchnorm.weights.layout import published_shapes, switchable_prefixes, to_ours, to_published
from switchnorm.weights.metadata import Metadata
from switchnorm.weights.pair import check_two_files, divided, joined
from switchnorm.weights.published import PUBLISHED, Checkpoint, published
from switchnorm.weights.recognise import Recognised, class_count, norm_of, options_of, part_norms, recognise

_TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar")
_NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked", "radius", "mean_fixed", "var_fixed")


@dataclass(frozen=True)
class _Source:
    """What was read: the file, or two joined to one; its state in our layout; and what is known of it."""

    file: CheckpointFile
    state: dict[str, Tensor]
    metadata: Metadata
    verified: bool


def convert(
    path: str | Path,
    out: str | Path,
    name: str | None = None,
    force: bool = False,
    *,
    decoder: str | Path | None = None,
    network: str | None = None,
) -> Card:
    """Convert a checkpoint file, or the two files of a network for segmentation.

    Args:
        path: a checkpoint of any format, see `switchnorm.weights.read_state`: published, or of a run.
        out: OUT.safetensors takes this library's layout, with the card beside it as OUT.json; OUT.pth, OUT.pt or
            OUT.pth.tar takes the published one, as a file that PyTorch of the papers' time reads too.
        name: which of `switchnorm.weights.PUBLISHED` the file is; None finds out by its sum and its name.
        force: whether to replace existing files.
        decoder: the decoder's file where encoder and decoder are two: it is read beside `path` for OUT.safetensors, and
            otherwise written beside `out`.
        network: which network the file is of, where keys do not tell, as for dilation; None finds out.

    Returns:
        The card.

    Raises:
        InputError: no readable checkpoint, not the one it should be, or nowhere to write. Nothing is written then.
    """
    path, out, decoder = Path(path), Path(out), None if decoder is None else Path(decoder)
    to_safetensors = out.suffix == ".safetensors"
    _check_suffix(out, (".safetensors", *_TORCH_SUFFIXES))
    read = [path] if decoder is None or not to_safetensors else [path, decoder]
    targets = [out, out.with_suffix(".json")] if to_safetensors else [out] if decoder is None else [out, decoder]
    if not to_safetensors:
        _check_suffix(targets[-1], _TORCH_SUFFIXES)
    _check_targets(targets, read, force)
    source = _read(read, name, network)
    _say_not_finite(source.state, path)
    if to_safetensors:
        card = _card(source, source.state, "", [])
        _write_safetensors(out, targets[1], source.state, source.metadata, card)
        return card
    state, counters = to_published(source.state, source.metadata.shapes)
    origins = _origins(source, pair=decoder is not None)
    card = _card(source, state, origins[0][1], counters)
    if _in_detectron(source):
        state = detectron.to_detectron(state)
    parts = (state,) if decoder is None else divided(state, repr(str(path)))
    _write_torch({to: (part, *origin) for to, part, origin in zip(targets, parts, origins, strict=True)})
    return card


def _say_not_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Warn of numbers with which no network computes; some hold infinity on purpose, so that it is no error."""
    names = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if names:
        warnings.warn(
            f"{str(path)!r} holds numbers that are not finite in {len(names)} of {len(state)} entries, the first is "
            f"{names[0]}; they are as they were",
            stacklevel=3,
        )


def _check_suffix(out: Path, suffixes: tuple[str, ...]) -> None:
    if not out.name.endswith(suffixes):
        raise InputError(f"{str(out)!r} has an unknown suffix; choose {', '.join(suffixes)}")


def _check_targets(targets: Sequence[Path], read: Sequence[Path], force: bool) -> None:
    """Raise `InputError` if a file cannot be written, or would be written over one that is read or written."""
    if len(set(targets)) < len(targets):
        raise InputError(f"{str(targets[0])!r} cannot be encoder and decoder; choose another name")
    for target in targets:
        check_free(target, force)
        for path in read:
            if target.exists() and path.exists() and target.samefile(path):
                raise InputError(f"{str(path)!r} cannot become itself; choose another name")


def _read(paths: Sequence[Path], name: str | None, network: str | None) -> _Source:
    """Read one file, or the encoder's and the decoder's."""
    path, *others = paths
    file = read_checkpoint(path)
    md5 = file.metadata.md5 or file_md5(path)
    if detectron.is_detectron(file.state):
        said = replace(file.metadata, names=detectron.NAME)
        file = replace(file, state=detectron.to_ours(file.state), metadata=said)
    if not others:
        state, reshaped = to_ours(_dense(file.state))
        known = _recorded(path, file.metadata, name) if file.metadata.md5 else identify(path, md5, name)
        if known is not None:
            check_identity(path, state, known)
        metadata = replace(_metadata(path, file, state, reshaped, known, network), md5=md5)
        return _Source(file, state, metadata, known is not None and known.md5 == md5)
    if name is not None:
        raise InputError(f"{name} is one file; leave out --name or --decoder")
    check_two_files(path, others[0])
    second = read_checkpoint(others[0])
    beside = tuple(dict.fromkeys((*file.beside, *second.beside)))
    # What one file records of itself does not hold for the network that two of them make.
    said = Metadata(statistics=file.metadata.statistics)
    both = joined(file.state, second.state, f"checkpoint {str(path)!r} with decoder {str(others[0])!r}")
    file = replace(file, state=both, beside=beside, metadata=said)
    state, reshaped = to_ours(_dense(both))
    metadata = replace(_metadata(path, file, state, reshaped, None, network), md5=md5)
    origin = None if metadata.container is None else (second.container, second.prefix)
    decoder_md5 = second.metadata.md5 or file_md5(others[0])
    return _Source(file, state, replace(metadata, decoder=origin, decoder_md5=decoder_md5), False)


def _dense(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, which safetensors refuses, and hold no unused numbers, which PyTorch would save."""
    return {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in state.items()}


def _metadata(
    path: Path,
    file: CheckpointFile,
    state: Mapping[str, Tensor],
    reshaped: list[str],
    known: Checkpoint | None,
    network: str | None,
) -> Metadata:
    """What is known of a file, but for its sum."""
    recorded = replace(file.metadata, classes=file.classes)
    if network is not None:
        check_network(path, state, network, known)
    if known is not None:
        found = replace(recorded, network=known.network, norm=known.norm, statistics=known.statistics)
        found = replace(found, name=known.name, source=known.source, top1=known.top1, top5=known.top5)
        found = replace(found, box_ap=known.box_ap, mask_ap=known.mask_ap)
    else:
        found = replace(
            _of_network(recorded, None if network else recognise(state), network),
            norm=norm_of(state) or recorded.norm,
            statistics=_common_statistics(state, recorded.statistics),
        )
    found = replace(found, order=tuple(state))
    own = "model." in file.prefix or (bool(switchable_prefixes(state)) and not reshaped)
    if recorded.md5 is None and not own and file.format != "safetensors":
        usual = published_shapes(state)
        saved = {key: tuple(value.shape) for key, value in file.state.items()}
        exceptions = {key: shape for key, shape in saved.items() if usual.get(key, shape) != shape}
        found = replace(found, container=file.container, prefix=file.prefix, shapes=exceptions)
    return found


def _of_network(recorded: Metadata, found: Recognised | None, stated: str | None) -> Metadata:
    """What was recorded, with the network: as it is stated, or recorded unless keys contradict, or else recognised."""
    if stated is not None:
        return replace(recorded, network=stated, alike=())
    if found is None or recorded.network in (found.network, *found.alike):
        return recorded
    return replace(recorded, network=found.network, alike=found.alike)


def _recorded(path: Path, recorded: Metadata, name: str | None) -> Checkpoint | None:
    """The published checkpoint that a converted file names, whose sum was compared when it was converted."""
    if recorded.name is None:
        return None if name is None else identify(path, str(recorded.md5), name)
    if name not in (None, recorded.name):
        raise InputError(f"{str(path)!r} says that it is {recorded.name}, not {name}; leave out --name")
    return published(recorded.name)


def _common_statistics(state: Mapping[str, Tensor], recorded: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What all switchable layers mix, None if there are none, if they differ, or if it is unknown."""
    found = {layer_statistics(state, prefix, recorded) for prefix in switchable_prefixes(state)}
    return found.pop() if len(found) == 1 and not any("statistic " in s for each in found for s in each) else None


def _origins(source: _Source, *, pair: bool) -> list[tuple[str, str]]:
    """The entry of a training checkpoint and the prefix that each file had, or that the published code expects."""
    metadata = source.metadata
    recorded = None
    if metadata.container is not None and metadata.prefix is not None:
        recorded = metadata.container, metadata.prefix
    if pair:
        # Encoder and decoder were published as plain state dicts.
        return [recorded, metadata.decoder] if recorded and metadata.decoder else [("", "")] * 2
    if recorded and metadata.decoder is None:
        return [recorded]
    if _in_detectron(source):
        return [("model", "")]
    if not switchable_prefixes(source.state) and metadata.network in {
        c.network for c in PUBLISHED if c.norm == "gn+ws"
    }:
        return [("", "module.")]
    return [("state_dict", "")]


def _in_detectron(source: _Source) -> bool:
    """Whether the published code calls the entries otherwise: where the file did, or where no file says how it was."""
    metadata = source.metadata
    return metadata.names == detectron.NAME or (metadata.container is None and detectron.has_place(source.state))


def _card(source: _Source, written: Mapping[str, Tensor], prefix: str, counters: list[str]) -> Card:
    """The card of what was written with a prefix, without `counters`."""
    file, state, metadata = source.file, source.state, source.metadata
    parts = part_norms(state) if metadata.network else {}
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
        verified=source.verified,
        keys=len(state),
        parameters=sum(parameters),
        removed_prefix="" if prefix == file.prefix else file.prefix,
        reshaped=sum(value.shape != file.state[key].shape for key, value in written.items()),
        dropped=(*file.beside, *counters),
        format=file.format,
        switchnorm=__version__,
        decoder_md5=metadata.decoder_md5,
        alike=metadata.alike,
        options=_options(source) if metadata.network else {},
        box_ap=metadata.box_ap,
        mask_ap=metadata.mask_ap,
        norms=parts if len(set(parts.values())) > 1 else {},
    )


def _options(source: _Source) -> dict[str, Any]:
    """What `create_model` is told, by the entries and by what is known of a published network."""
    name = source.metadata.name
    return {**options_of(source.state), **({} if name is None else published(name).options)}


def _write_safetensors(out: Path, beside: Path, state: dict[str, Tensor], metadata: Metadata, card: Card) -> None:
    def write(target: Path) -> None:
        try:
            content = save(state, metadata.write(__version__))
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"{str(out)!r} cannot be written: {str(error).splitlines()[0]}") from error
        # Not by safetensors' own writer, whose files only their owner may read.
        target.write_bytes(content)

    def describe(target: Path) -> None:
        target.write_text(card.to_json())

    write_files({out: write, beside: describe})


def _write_torch(files: Mapping[Path, tuple[Mapping[str, Tensor], str, str]]) -> None:
    """Write for each path a state, under an entry of a training checkpoint if there is one, with a prefix."""

    def write(state: Mapping[str, Tensor], container: str, prefix: str, target: Path) -> None:
        content = OrderedDict((prefix + key, value) for key, value in state.items())
        # PyTorch before 1.6, which the published code was written for, reads no other format.
        torch.save({container: content} if container else content, target, _use_new_zipfile_serialization=False)

    write_files({path: partial(write, *content) for path, content in files.items()})
