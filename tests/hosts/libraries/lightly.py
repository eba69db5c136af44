"""lightly: encoders with the heads of self-supervised learning, whose batch norms see flat features."""

from __future__ import annotations

from lightly.models import ResNetGenerator
from lightly.models.modules import BarlowTwinsProjectionHead, MoCoProjectionHead, SimSiamProjectionHead
from torch import nn

from tests.hosts.host import Host, images

TITLE = "lightly"


def _with(head: nn.Module) -> nn.Module:
    encoder = ResNetGenerator("resnet-9", width=0.125)
    encoder.linear = nn.Identity()
    return nn.Sequential(encoder, head)


HOSTS = [
    Host(
        "ResNet-9, split batch norm",
        lambda: ResNetGenerator("resnet-9", width=0.125, num_splits=2),
        images(32),
        why={"bn, ghosts of 2": "SplitBatchNorm has a forward of its own"},
    ),
    Host("MoCo", lambda: _with(MoCoProjectionHead(64, 32, 16, batch_norm=True)), images(32)),
    Host("SimSiam", lambda: _with(SimSiamProjectionHead(64, 32, 16)), images(32)),
    Host("Barlow Twins", lambda: _with(BarlowTwinsProjectionHead(64, 32, 16)), images(32)),
]
