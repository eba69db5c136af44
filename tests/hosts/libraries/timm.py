"""timm's networks, one of each kind of normalization; `make sweep` has fifty."""

from __future__ import annotations

import timm
from torch import nn

from tests.hosts.host import Host, images

TITLE = "timm"


def _group_norm() -> nn.Module:
    return timm.create_model("resnetv2_50d_gn", num_classes=10, layers=(1, 1, 1, 1), channels=(128,) * 4)


HOSTS = [
    Host("resnet10t", lambda: timm.create_model("resnet10t", num_classes=10), images(64)),
    Host("tf_efficientnet_lite0", lambda: timm.create_model("tf_efficientnet_lite0", num_classes=10), images(64)),
    Host("mobilenetv4_conv_small_035", lambda: timm.create_model("mobilenetv4_conv_small_035"), images(64)),
    Host("resnetv2_50d_gn", _group_norm, images(64)),
]
