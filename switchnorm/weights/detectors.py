"""What a detector's entries tell of it: its name, its classes, the normalization of each part, its options."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from switchnorm.models import list_models, task_of
from switchnorm.models.imagenet.resnet import BLOCKS, BOTTLENECK_DEPTHS

#: Channels of a pyramid, and of the linear layers in a box head, that names and options leave out.
_WIDTH, _BOX_CHANNELS = 256, 1024
#: The anchors at each place of RetinaNet, and of the first maps of SSD and SSDlite.
_RETINA, _SSD, _SSDLITE = 9, 4, 6
#: The size of pictures in a name of torchvision's, which leaves no trace in keys and shapes.
_SIZE = re.compile(r"_\d+(?=_fpn$)")


@dataclass(frozen=True)
class _Kind:
    """Detectors with the same layer for their classes.

    Attributes:
        logits: the weight of that layer.
        mark: an entry that tells these from others with such a layer, or "".
        classes: from its rows to the number of classes.
        heads: what stands behind the "+" in names of this library's; "" for torchvision's.
        norms: the parts with a normalization of their own.
    """

    logits: str
    mark: str
    classes: Callable[[int], int]
    heads: str = ""
    norms: tuple[str, ...] = ()


_KINDS = (
    _Kind("box.cls_score.weight", "mask.classify.weight", lambda rows: rows - 1, "mask_4conv1fc", ("box", "mask")),
    _Kind("box.cls_score.weight", "box.layer4.0.conv1.weight", lambda rows: rows - 1, "faster", ("box",)),
    _Kind("box.cls_score.weight", "box.fc2.weight", lambda rows: rows - 1, "faster_2fc"),
    _Kind("box.cls_score.weight", "box.fc.weight", lambda rows: rows - 1, "faster_4conv1fc", ("box",)),
    _Kind("head.cls_logits.weight", "head.centerness.weight", lambda rows: rows, "fcos", ("head",)),
    _Kind("head.cls_logits.weight", "neck.p7.weight", lambda rows: rows // _RETINA, "retina", ("head",)),
    _Kind("roi_heads.box_predictor.cls_score.weight", "", lambda rows: rows - 1),
    _Kind(
        "head.classification_head.cls_logits.weight",
        "head.regression_head.bbox_ctrness.weight",
        lambda rows: rows - 1,
    ),
    _Kind("head.classification_head.cls_logits.weight", "", lambda rows: rows // _RETINA - 1),
    _Kind("head.classification_head.module_list.0.weight", "", lambda rows: rows // _SSD - 1),
    _Kind("head.classification_head.module_list.0.1.weight", "", lambda rows: rows // _SSDLITE - 1),
)


def is_detector(state: Mapping[str, Tensor]) -> bool:
    """Whether a state, with this library's names or torchvision's, is a detector's."""
    return _kind(state) is not None


def class_count(state: Mapping[str, Tensor]) -> int:
    """The classes of a detector, without background; 1 at least, as every network here has."""
    kind = _kind(state)
    return 1 if kind is None else max(1, kind.classes(len(state[kind.logits])))


def parts_of(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The parts of a detector of this library that may each have a normalization; none of others."""
    kind = _kind(state)
    if kind is None or not kind.heads:
        return ()
    return ("body", *(("neck",) if any(key.startswith("neck.") for key in state) else ()), *kind.norms)


def entries_of(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The entries of a part."""
    return {key: value for key, value in state.items() if key.startswith(f"{part}.")}


def by_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries in the order of the parts that they belong to, from the picture on; within a part as they were."""
    order = {part: number for number, part in enumerate(("body", "neck", "rpn", "box", "mask", "head"))}
    return {key: state[key] for key in sorted(state, key=lambda key: order.get(key.partition(".")[0], len(order)))}


def is_normalized(state: Mapping[str, Tensor]) -> bool:
    """Whether there is a normalization among entries: layers with a number for each channel, whatever its shape."""
    return any(key.endswith(".weight") and value.numel() == max(value.shape, default=0) for key, value in state.items())


def options(state: Mapping[str, Tensor]) -> dict[str, int]:
    """What `switchnorm.create_model` has to be told beside a detector's name, by the shapes in `state`."""
    found = {}
    linear = next((state[key] for key in ("box.fc2.weight", "box.fc.weight") if key in state), None)
    if linear is not None and len(linear) != _BOX_CHANNELS:
        found["box_channels"] = len(linear)
    stem = state.get("body.stem.conv1.weight")
    if stem is not None and stem.shape[1] != 3:
        found["in_channels"] = stem.shape[1]
    return found


def candidates(state: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of the detectors that `state` could belong to, but for bodies of timm, whose names keys do not tell."""
    kind = _kind(state)
    if kind is not None and not kind.heads:
        parts = {key.partition(".")[0] for key in state}
        two_stage, masks = "rpn" in parts, any(".mask_head." in key for key in state)
        begins = ("maskrcnn" if masks else "fasterrcnn",) if two_stage else ("retinanet", "fcos", "ssd")
        # Of two that keys do not tell apart the one for pictures of any size is the likelier.
        yield from sorted((name for name in _foreign() if name.startswith(begins)), key=lambda n: bool(_SIZE.search(n)))
        return
    body = None if kind is None else _body(state, last=kind.heads == "faster")
    if kind is None or body is None:
        return
    if kind.heads == "faster":
        yield f"{body}_c4+faster"
        return
    width = len(state["neck.output.0.0.weight"]) if "neck.output.0.0.weight" in state else _WIDTH
    yield f"{body}_fpn{'' if width == _WIDTH else width}+{kind.heads}"


def alike(name: str) -> tuple[str, ...]:
    """torchvision's detectors that differ from this one in the size of pictures that they are meant for alone."""
    return tuple(other for other in _foreign() if other != name and _SIZE.sub("", other) == _SIZE.sub("", name))


def _foreign() -> list[str]:
    return [name for name in list_models() if may_differ(name)]


def may_differ(name: str) -> bool:
    """Whether a network may have normalizations that differ as it is built: torchvision's detectors."""
    return "+" not in name and task_of(name) == "detection"


def _kind(state: Mapping[str, Tensor]) -> _Kind | None:
    fits = (kind for kind in _KINDS if kind.logits in state and (not kind.mark or kind.mark in state))
    return next((kind for kind in fits if not kind.heads or any(key.startswith("body.") for key in state)), None)


def _body(state: Mapping[str, Tensor], *, last: bool) -> str | None:
    """The residual body whose stages have as many blocks; `last` where the fourth stage is in the box head."""
    blocks = []
    for number in range(1, 5):
        stage = f"box.layer{number}." if last and number == 4 else f"body.layer{number}."
        found = {int(match[1]) for key in state if (match := re.match(re.escape(stage) + r"(\d+)\.conv1\.", key))}
        blocks.append(len(found))
    bottleneck = "body.layer1.0.conv3.weight" in state
    depths = [depth for depth, counts in BLOCKS.items() if counts == tuple(blocks)]
    depth = next((depth for depth in depths if (depth in BOTTLENECK_DEPTHS) == bottleneck), None)
    if depth is None:
        return None
    wide = state.get("body.layer1.0.conv2.weight")
    grouped = bottleneck and wide is not None and wide.shape[1] != wide.shape[0]
    return f"l_resnext{depth}" if grouped else f"resnet{depth}"
