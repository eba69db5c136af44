"""Which network a state dict belongs to, told by its keys and shapes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from switchnorm import models
from switchnorm.errors import InputError
from switchnorm.layers import Norm, all_norms
from switchnorm.models import Family, create_model, list_models, task_of
from switchnorm.models.registry import FAMILIES
from switchnorm.weights import detectors
from switchnorm.weights.layout import switchable_prefixes, to_ours

# How far the depth in a network's name may be from the number of its layers: authors count some layers, others not.
_DEPTH_TOLERANCE = 4
# Networks of torchvision whose names tell their depth; to build all others for comparison would take half a minute.
_FOREIGN = re.compile(r"(wide_)?(resnet|resnext|densenet|vgg)\d+")
_LOGITS = ("mean_weight", "var_weight")
_STATE = ("running_mean", "running_var", "num_batches_tracked", "radius", "mean_fixed", "var_fixed")


@dataclass(frozen=True)
class Recognised:
    """A network that fits a state dict.

    Attributes:
        network: its name for `switchnorm.create_model`, which also needs `options_of` the state.
        num_classes: its number of logits.
        alike: networks that differ from it in dilation alone, or in the size of pictures that a detector is meant for,
            which leave no trace in keys and shapes.
        norms: of the parts of a detector whose parts differ: "none", "bn", "sn", ...; None where keys do not tell.
    """

    network: str
    num_classes: int
    alike: tuple[str, ...] = ()
    norms: dict[str, str | None] = field(default_factory=dict)


def recognise(state: Mapping[str, Tensor], among: Iterable[str] | None = None) -> Recognised | None:
    """The network whose keys and shapes are those of `state`, in either layout; None if there is none.

    Networks are chosen by task, depth and norm before any is built, and built on the meta device. Those
    of torchvision are known only where their names tell their depth, or where they are for segmentation. Of networks
    that differ in dilation alone the published one is taken: an output stride of 32 before UPerNet, 8 before others.

    Args:
        state: tensors by key.
        among: names to try; None tries all that could fit.
    """
    state, _ = to_ours(state)
    norm = norm_of(state)
    norms = part_norms(state)
    classes = class_count(state)
    wanted = _signature(state)
    options = options_of(state)
    # None leaves a network as it is built: some have no normalization to replace, or several that differ.
    usual = (_stateless(), None) if norm is None else (norm,)
    for name in candidates(state) if among is None else among:
        for stand_ins in (usual, *(((None,),) if detectors.may_differ(name) else ())):
            model = _built(name, stand_ins, norms, classes, options)
            if model is not None and _signature(model.state_dict()) == wanted:
                mixed = norms if len(set(norms.values())) > 1 else {}
                return Recognised(name, classes, _alike(name), mixed)
    return None


def part_norms(state: Mapping[str, Tensor]) -> dict[str, str | None]:
    """The normalization of each part of a detector: "none" for none, None where keys do not tell; none of others."""
    found: dict[str, str | None] = {}
    for part in detectors.parts_of(state):
        entries = detectors.entries_of(state, part)
        found[part] = norm_of(entries) if detectors.is_normalized(entries) else "none"
    return found


def options_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What `switchnorm.create_model` has to be told beside a network's name, by the parts that `state` has."""
    if detectors.is_detector(state):
        return dict(detectors.options(state))
    parts = {"deep_stem": "encoder.conv3.", "aux_loss": "aux_classifier."}
    return {option: True for option, part in parts.items() if any(key.startswith(part) for key in state)}


class _Unfilled(TorchFunctionMode):
    """Leaves out random initial weights: the meta device keeps none, and to draw them PyTorch loads its compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Skip in-place random filling, and call everything else."""
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _built(
    name: str,
    stand_ins: Iterable[str | None],
    norms: Mapping[str, str | None],
    classes: int,
    options: dict[str, Any],
) -> nn.Module | None:
    """A network on the meta device, with the first norm that it can be built with there; None with none of them."""
    parts: dict[str, Any] = {part: each or _stateless() for part, each in norms.items()}
    for stand_in in stand_ins:
        try:
            with torch.device("meta"), _Unfilled():
                return create_model(name, norm=stand_in, norms=parts, num_classes=classes, **options)
        except (InputError, NotImplementedError):
            continue
    return None


def norm_of(state: Mapping[str, Tensor]) -> str | None:
    """The normalizer whose layers have such keys and shapes; None for those whose layers keep only scale and shift."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        prefix, _, name = key.rpartition(".")
        layers.setdefault(prefix, {})[name] = value
    for norm in sorted(all_norms(), key=lambda norm: (-len(_marks(norm)), not _tracks_some(norm))):
        if any(_belongs(layer, norm) for layer in layers.values()):
            return norm.name
    return None


def _belongs(layer: Mapping[str, Tensor], norm: Norm) -> bool:
    """Whether a layer's entries, by name, are those of a normalizer that keeps more than scale and shift."""
    marks = _marks(norm)
    if marks or "running_mean" not in layer:
        return bool(marks) and marks <= layer.keys()
    tracked = layer["running_mean"].numel()
    channels = layer["weight"].numel() if "weight" in layer else tracked
    mean = _blank(norm, channels).get("running_mean")
    # Flat layers of such a normalizer track all channels, as those of others do, and tell nothing.
    return mean is not None and mean.numel() == tracked and (tracked < channels or not _tracks_some(norm))


def _tracks_some(norm: Norm) -> bool:
    """Whether a normalizer's layers have running statistics of some of their channels only."""
    mean = _blank(norm, 32).get("running_mean")
    return mean is not None and mean.numel() < 32


def _stateless() -> str:
    """A norm whose layers keep nothing but scale and shift, for all those whose keys are alike."""
    return next(norm.name for norm in all_norms() if _blank(norm, 32).keys() == {"weight", "bias"})


def _marks(norm: Norm) -> set[str]:
    """The entries of a normalizer's layers that are neither scale, shift nor running statistics."""
    return _blank(norm, 32).keys() - {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


@functools.cache
def _blank(norm: Norm, channels: int) -> dict[str, Tensor]:
    """The state of a fresh layer; none where there is no layer of so many channels."""
    try:
        return dict(norm.layer(channels, min(norm.layers, key=lambda dims: abs(dims - 2))).state_dict())
    except InputError:
        return {}


def candidates(state: Mapping[str, Tensor]) -> Iterator[str]:
    """The networks that `state` could belong to, likeliest first, judged by its parts, norm and number of layers."""
    if detectors.is_detector(state):
        yield from detectors.candidates(state)
        return
    parts = {key.partition(".")[0] for key in state}
    if parts == {"encoder", "decoder"}:
        yield from _pairings(_depth((key, value) for key, value in state.items() if key.startswith("encoder.")))
        return
    if "backbone" in parts and parts <= {"backbone", "classifier", "aux_classifier"}:
        yield from (name for name in list_models() if task_of(name) == "segmentation" and name not in _own())
        return
    norm, depth = norm_of(state) or _stateless(), _depth(state.items())
    own = _own("classification")
    # A network that was made for another norm is less likely than one that was made for any.
    likely = [name for name in own if usual_norm(name) in (norm, Family.norm, None)]
    yield from sorted(_near(likely, depth), key=lambda name: usual_norm(name) != norm)
    # Importing torchvision takes seconds, so its networks are tried after this library's likely ones.
    yield from _near([name for name in list_models() if name not in _own() and _FOREIGN.match(name)], depth)
    yield from _near([name for name in own if name not in likely], depth)


def _own(*tasks: str) -> list[str]:
    """The names of this library's own networks, for some tasks or all."""
    return [name for family in FAMILIES if not tasks or family.task in tasks for name in family.names]


def _pairings(depth: int) -> Iterator[str]:
    """Pairings of encoders near a depth with every decoder, each with the dilation that was published for it."""
    for name in _own("segmentation"):
        encoder, _, decoder = name.partition("+")
        found = re.fullmatch(r"resnet(\d+)(_dilated8)?", encoder)
        usual = found is not None and (found[2] is None) == decoder.startswith("upernet")
        if found is not None and usual and abs(int(found[1]) - depth) <= _DEPTH_TOLERANCE:
            yield name


def _alike(name: str) -> tuple[str, ...]:
    """The networks that differ from one in what leaves no trace alone: dilation, or the size of pictures."""
    if detectors.may_differ(name):
        return detectors.alike(name)
    plain = re.compile(r"_dilated\d+(?=\+)")
    return tuple(n for n in _own("segmentation") if n != name and plain.sub("", n) == plain.sub("", name))


def usual_norm(name: str) -> str | None:
    """The norm that one of this library's own networks has where none is asked for; None for none, and other names."""
    norm = models.norm_of(name)
    return norm.partition("+")[0] if norm else None


def _near(names: Iterable[str], depth: int) -> list[str]:
    """The names with a number near `depth`, nearest first, and before them those without any."""
    numbers = {name: [n for n in map(int, re.findall(r"\d+", name)) if n > _DEPTH_TOLERANCE] for name in names}
    distance = {name: min((abs(n - depth) for n in found), default=0) for name, found in numbers.items()}
    return sorted((name for name in distance if distance[name] <= _DEPTH_TOLERANCE), key=lambda n: (distance[n], n))


def _depth(entries: Iterable[tuple[str, Tensor]]) -> int:
    """The number of layers with weights, without those of shortcuts."""
    return sum(not re.search("downsample|shortcut", key.lower()) for key, _ in _weights(dict(entries)))


def _weights(state: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Weights of convolutions and linear layers."""
    return [(key, value) for key, value in to_ours(state)[0].items() if key.endswith("weight") and value.dim() > 1]


def class_count(state: Mapping[str, Tensor]) -> int:
    """The number of rows of the classifier.

    That is the linear layer that comes last, or else the last convolution, of those with a bias if there are any: in
    networks for segmentation only classifiers have one. Of a detector, the number of its classes without background.
    """
    if detectors.is_detector(state):
        return detectors.class_count(state)
    weights = _weights(state)
    linear = [value for _, value in weights if value.dim() == 2]
    biased = [value for key, value in weights if f"{key.removesuffix('weight')}bias" in state]
    last = linear or biased or [value for _, value in weights]
    return len(last[-1]) if last else 1


def _signature(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by key, without what depends on the statistics that layers mix, and without what files may lack."""
    switchable = {f"{prefix}{name}" for prefix in switchable_prefixes(state) for name in _STATE}
    return {
        key: (1,) if key.rsplit(".", 1)[-1] in _LOGITS else tuple(value.shape)
        for key, value in state.items()
        if key not in switchable and not key.endswith("num_batches_tracked")
    }
