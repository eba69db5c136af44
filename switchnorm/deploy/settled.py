"""What an export is to be, out of what was asked for and what is known of the network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from switchnorm.data.preparation import Crop
from switchnorm.deploy.adapters import Adapter
from switchnorm.deploy.description import DIMENSIONS, RAW_TASK, Description
from switchnorm.deploy.formats import FORMATS, Format
from switchnorm.deploy.sizes import SMALLEST
from switchnorm.errors import InputError, unknown
from switchnorm.surgery.folding.sizes import check_size

#: The side of images that a network is made for where nothing says so.
_SIDE = 224
#: Where sizes are open, the longest side that a network is traced with: any will do.
_TRACED = 256


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as the arguments of `switchnorm.export`, but dynamic as of `dimensions`."""

    size: int | Sequence[int] | None
    dynamic: tuple[str, ...] | None
    raw: bool
    half: bool
    int8: bool


def dimensions(dynamic: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """The dimensions that are to stay open, of their names in any order, or one text of these; None for no wish.

    Raises:
        InputError: anything else.
    """
    if dynamic is None:
        return None
    if not isinstance(dynamic, Iterable):
        raise InputError(f"dynamic {dynamic!r} must name what stays open, as 'batch' or ('batch', 'height', 'width')")
    asked = [dynamic] if isinstance(dynamic, str) else dynamic
    names = [each for name in asked for each in str(name).replace(" ", "").split(",") if each]
    for name in names:
        if name not in DIMENSIONS:
            raise unknown("dynamic dimension", name, DIMENSIONS)
    return tuple(name for name in DIMENSIONS if name in names)


def settled(adapter: Adapter, about: Description, format: Format, wanted: Wanted, notes: list[str]) -> Description:
    """The description of the file.

    Args:
        adapter: the network, as its task names its outputs.
        about: what is known of it.
        format: of the file.
        wanted: what was asked for.
        notes: takes a line for each thing that was decided here.

    Raises:
        InputError: a size, or dimensions, that cannot be.
    """
    if adapter.counts and not format.counts:
        able = ", ".join(each.name for each in FORMATS.values() if each.counts)
        raise InputError(
            f"format {format.name!r} holds no network that finds more or less by what is in the picture; choose from "
            f"{able}"
        )
    if wanted.int8 and adapter.in_8_bits:
        raise InputError(adapter.in_8_bits)
    raw = wanted.raw
    if about.preparation is None and not raw:
        raw = True
        if about.task != RAW_TASK:
            notes.append("it takes normalized float32 images, for nobody has said how pictures are prepared")
    dynamic = _dynamic(adapter, about, format, wanted)
    known = _known_size(adapter, about)
    size = check_size(wanted.size) or known
    if size is None and {"height", "width"} - set(dynamic):
        raise InputError(
            f"a file of format {format.name!r} with {'fixed sizes' if not dynamic else 'a fixed side'} needs a size, "
            "for evaluation shows pictures of many; give size, as 512 or (512, 640)"
        )
    return replace(about, raw=raw, dynamic=dynamic, size=size, half=wanted.half, int8=wanted.int8)


def traced_size(adapter: Adapter, about: Description) -> tuple[int, int]:
    """The size that a network is traced near to: its own, or where both sides are open one that takes little time."""
    if about.size is not None:
        return about.size
    return _at_least(adapter.smallest, _TRACED)


def _at_least(smallest: int, side: int) -> tuple[int, int]:
    """A size of which the smallest that is tried beside it is large enough."""
    side = max(side, math.ceil(smallest / SMALLEST))
    return side, side


def multiple_of(about: Description) -> int:
    """Of which number the sides of pictures are multiples, as evaluation shows them."""
    return int(getattr(getattr(about.preparation, "rule", None), "multiple", 1))


def _dynamic(adapter: Adapter, about: Description, format: Format, wanted: Wanted) -> tuple[str, ...]:
    able = "dynamic" in format.arguments
    if wanted.dynamic is None:
        if not able:
            return ()
        many = about.preparation is not None and not isinstance(about.preparation.rule, Crop) and wanted.size is None
        found = ("batch",) if adapter.batches else ()
        return (*found, "height", "width") if many else found
    if "batch" in wanted.dynamic and not adapter.batches:
        raise InputError("this network finds objects in one picture at a time; leave batch out of dynamic")
    return wanted.dynamic


def _known_size(adapter: Adapter, about: Description) -> tuple[int, int] | None:
    """The size that the network is said to be for; None where evaluation shows pictures of many sizes."""
    if about.size is not None:
        return about.size
    if about.preparation is not None:
        rule = about.preparation.rule
        return (rule.size, rule.size) if isinstance(rule, Crop) else None
    for module in adapter.modules():
        for name in ("pretrained_cfg", "default_cfg"):  # as timm says it
            entries = getattr(module, name, None)
            found = entries.get("input_size") if isinstance(entries, dict) else None
            if isinstance(found, tuple | list) and len(found) == 3:
                return int(found[1]), int(found[2])
    return _at_least(adapter.smallest, _SIDE)


def image_channels(network: nn.Module) -> int | None:
    """C of the images that a network takes, by its first convolution; None where it has none."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.modules.conv._ConvNd))
    first = next(convolutions, None)
    return None if first is None else first.in_channels


def settled_channels(network: nn.Module, about: Description, wanted: int | None) -> int:
    """C of the images that a network takes: as they are prepared, as was asked for, or by its first convolution.

    Raises:
        InputError: no number of channels was asked for, or another one than pictures have; or nothing tells it.
    """
    if wanted is not None and (type(wanted) is not int or wanted < 1):
        raise InputError(f"channels {wanted!r} must be a number of channels, 1 or more")
    if about.preparation is not None:
        prepared = about.preparation.channels
        if wanted not in (None, prepared):
            raise InputError(f"channels is {wanted}, and pictures are prepared with {prepared}; leave channels out")
        return prepared
    if wanted is not None:
        return wanted
    found = image_channels(network)
    if found is None:
        raise InputError("the network has no convolution to tell how many channels its images have; give channels")
    return found
