"""Detectors of torchvision, with this library's pictures, losses and random numbers.

They take pictures that are resized and normalized already, so that training and evaluation are those of any detector
here; what torchvision's own transform would do to them is left out. Modules have torchvision's names, so that its files
load.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any

from torch import nn

from switchnorm.errors import InputError, unknown
from switchnorm.models.options import SHARED, explained

#: The names of torchvision's networks for detection, told without importing torchvision, which takes seconds.
NAMES = re.compile(r"(fasterrcnn|maskrcnn|keypointrcnn|retinanet|fcos|ssd\d+|ssdlite\d+)_\w+")
#: The networks that are not taken, and why.
REFUSED = {
    "keypointrcnn_resnet50_fpn": "finds keypoints, which no task here trains; the nearest network is "
    "'maskrcnn_resnet50_fpn'"
}
#: Options about pictures, and where that is said here.
_PICTURES = {
    "min_size": "data.short_sides",
    "max_size": "data.longest",
    "image_mean": "data.mean",
    "image_std": "data.std",
}
#: The largest of COCO's numbers of classes, so many torchvision's networks are made for; 80 of them are in use.
COCO_NUMBERS = 90
_FREEZING = "trainable_backbone_layers"


def build(name: str, *, num_classes: int | None = None, **options: Any) -> nn.Module:
    """A detector of torchvision with weights at random, in the calling convention of this library's.

    Args:
        name: as torchvision knows it.
        num_classes: of objects, without the background, which torchvision counts; None for COCO's 90 numbers, of which
            80 are in use.
        options: of torchvision's class, but for pictures and freezing, which are said elsewhere.

    Raises:
        InputError: an option that is unknown, or whose place is elsewhere.
    """
    from torchvision.models import get_model_builder

    builder = get_model_builder(name)
    kind = typing.get_type_hints(builder)["return"]
    _check_options(name, kind, options)
    classes = COCO_NUMBERS if num_classes is None else num_classes
    with explained(name, options, lambda: _plain(kind)):
        network = builder(weights=None, weights_backbone=None, num_classes=1 + classes, **options)
    return _taken_over(network, classes)


def _check_options(name: str, kind: type[nn.Module], options: Mapping[str, Any]) -> None:
    """Raise `InputError` for an option that torchvision's class lacks, which it would take without using it."""
    known = _plain(kind)
    for option in options:
        if option in _PICTURES:
            raise InputError(
                f"option {option!r} of {name!r} is about pictures, which come as the data makes them; set "
                f"{_PICTURES[option]}"
            )
        if option == _FREEZING:
            raise InputError(f"option {option!r} of {name!r} is about training; name what is frozen in train.freeze")
        if option not in known:
            raise unknown(f"option of {name!r}", option, [*known, *SHARED])


def _plain(kind: type[nn.Module]) -> list[str]:
    """The options of one of torchvision's classes whose values are plain."""
    return [
        parameter.name
        for each in (kind, *kind.__bases__)
        for parameter in inspect.signature(each).parameters.values()
        if isinstance(parameter.default, (bool, int, float)) and parameter.name not in _PICTURES
    ]


def _taken_over(network: Any, num_classes: int) -> nn.Module:
    """The parts of torchvision's network in this library's."""
    from torchvision.models.detection import FasterRCNN

    from switchnorm.models.detection.foreign_dense import ForeignDense
    from switchnorm.models.detection.foreign_two_stage import ForeignTwoStage
    from switchnorm.models.detection.geometry import GEOMETRIES
    from switchnorm.models.detection.prepared import Prepared

    taken = ForeignTwoStage if isinstance(network, FasterRCNN) else ForeignDense
    return taken(network, Prepared(num_classes, GEOMETRIES["torchvision"], network.transform.size_divisible))
