"""Layers that see regions of pictures: a batch of these is no batch of pictures."""

from __future__ import annotations

import re

from torch import nn

from switchnorm.layers import has_batch_statistics

# torchvision's MultiScaleRoIAlign, detectron2's ROIPooler, mmdetection's SingleRoIExtractor.
_POOLERS = re.compile(r"RoI_?(Align|Pool|Extractor)|RoIAlign", re.IGNORECASE)


def region_layers(model: nn.Module) -> list[str]:
    """The names of the layers with batch statistics in the heads of detectors that look at regions of pictures.

    Such a head holds what cuts regions out of feature maps, and after it what looks at these.
    """
    names = []
    for name, module in model.named_modules():
        prefix, cut = f"{name}." if name else "", False
        for child_name, child in module.named_children():
            cut = cut or _POOLERS.search(type(child).__name__) is not None
            inner = child.named_modules(prefix=prefix + child_name) if cut else ()
            names += [inner_name for inner_name, layer in inner if has_batch_statistics(layer)]
    return list(dict.fromkeys(names))


def ghost_refusal(name: str) -> str:
    """Why a layer that sees regions takes no ghost batches."""
    return (
        f"layer {name!r} sees regions of pictures, which ghost batches would group instead of pictures; switch the "
        "heads to 'gn', or leave ghost out"
    )
