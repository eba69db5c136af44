"""segmentation_models.pytorch: decoders on encoders of its own and of timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from tests.hosts.host import Host, images

TITLE = "segmentation_models.pytorch"


def _built(make: Callable[..., nn.Module], encoder: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: make(encoder, encoder_weights=None, classes=2, **options)


HOSTS = [
    Host("Unet, resnet18", _built(smp.Unet, "resnet18", decoder_channels=(32, 16, 16, 8, 8)), images(64)),
    Host(
        "UnetPlusPlus, resnet18", _built(smp.UnetPlusPlus, "resnet18", decoder_channels=(32, 16, 16, 8, 8)), images(64)
    ),
    Host("FPN, mobilenet_v2", _built(smp.FPN, "mobilenet_v2", decoder_pyramid_channels=32), images(64)),
    Host(
        "DeepLabV3Plus, efficientnet-b0", _built(smp.DeepLabV3Plus, "efficientnet-b0", decoder_channels=32), images(64)
    ),
    Host("PSPNet, resnet18", _built(smp.PSPNet, "resnet18", psp_out_channels=32), images(64)),
    Host("Segformer, mit_b0", _built(smp.Segformer, "mit_b0", decoder_segmentation_channels=32), images(64)),
]
