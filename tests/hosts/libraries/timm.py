"""timm's networks, one of each kind of normalization; `make sweep` has fifty."""

from __future__ import annotations

import timm

from tests.hosts.host import Host, images

TITLE = "timm"

HOSTS = [
    Host("resnet10t", lambda: timm.create_model("resnet10t", num_classes=10), images(64)),
    Host("tf_efficientnet_lite0", lambda: timm.create_model("tf_efficientnet_lite0", num_classes=10), images(64)),
    Host("mobilenetv4_conv_small_035", lambda: timm.create_model("mobilenetv4_conv_small_035"), images(64)),
    Host("regnetz_005", lambda: timm.create_model("regnetz_005", num_classes=10), images(64)),
    Host("levit_128s", lambda: timm.create_model("levit_128s", num_classes=10), images(224)),
]
