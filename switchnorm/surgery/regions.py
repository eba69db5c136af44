"""Layers that see regions of pictures: a batch of these is no batch of pictures."""

from __future__ import annotations

import re

from torch import nn

from switchnorm.layers import has_batch_statistics

# torchvision's MultiScaleRoIAlign, detectron2's ROIPooler, mmdetection's SingleRoIExtractor.
_POOLERS = re.compile(r"RoI_?(Align|Pool|Extractor)|RoIAlign", re.IGNORECASE)


def region_layers(model: nn.Module) -> list[str]:
    """The names of the layers with batch statistics in the heads of detectors that look at regions of pictures.

    Such a head is a module that holds what cuts regions out of feature maps.
    """
    names = []
    for name, module in model.named_modules():
        if any(_POOLERS.search(type(child).__name__) for child in module.children()):
            prefix = f"{name}." if name else ""
            names += [prefix + inner for inner, layer in module.named_modules() if has_batch_statistics(layer)]
    return list(dict.fromkeys(names))


def ghost_refusal(name: str) -> str:
    """Why a layer that sees regions takes no ghost batches."""
    return (
        f"layer {name!r} sees regions of pictures, which ghost batches would group instead of pictures; switch the "
        "heads to 'gn', or leave ghost out"
    )
