"""torchvision's networks for pictures, masks, boxes and clips."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import models

from tests.hosts.host import SAMPLES, Host, images

TITLE = "torchvision"


def _pictures() -> list[torch.Tensor]:
    return [torch.rand(3, 64, 64) for _ in range(SAMPLES)]


def _clips() -> tuple[torch.Tensor]:
    """Small, and with more than one place in the last map."""
    return (torch.randn(SAMPLES, 3, 16, 4, 4),)


def _with_boxes() -> tuple[Any, Any]:
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [20.0, 16.0, 60.0, 60.0]])
    return _pictures(), [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in range(SAMPLES)]


def _faster_rcnn() -> torch.nn.Module:
    options: dict[str, Any] = {
        "weights": None,
        "weights_backbone": None,
        "num_classes": 3,
        "min_size": 64,
        "max_size": 64,
    }
    return models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(**options, trainable_backbone_layers=6)


def _lraspp() -> torch.nn.Module:
    return models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)


def _deeplab() -> torch.nn.Module:
    return models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)


HOSTS = [
    Host("resnet18", lambda: models.resnet18(num_classes=10), images(64)),
    Host("shufflenet_v2_x0_5", lambda: models.shufflenet_v2_x0_5(num_classes=10), images(64)),
    Host("densenet", lambda: models.DenseNet(8, (2, 2), 16, num_classes=10), images()),
    Host("lraspp_mobilenet_v3_large", _lraspp, images(64)),
    Host("deeplabv3_mobilenet_v3_large", _deeplab, images(64)),
    Host("fasterrcnn_mobilenet_v3_large_320_fpn", _faster_rcnn, _with_boxes, lambda: (_pictures(),)),
    Host("r3d_18", lambda: models.video.r3d_18(num_classes=3), _clips),
]
