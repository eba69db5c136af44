"""nnU-Net's networks, which are in a package of their own."""

from __future__ import annotations

from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from tests.hosts.host import Host, images

TITLE = "nnU-Net"


def _options(dims: int) -> dict[str, Any]:
    return {
        "input_channels": 1,
        "n_stages": 3,
        "features_per_stage": [8, 16, 16],
        "conv_op": nn.Conv3d if dims == 3 else nn.Conv2d,
        "kernel_sizes": 3,
        "strides": [1, 2, 2],
        "num_classes": 2,
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d if dims == 3 else nn.InstanceNorm2d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }


HOSTS = [
    Host("PlainConvUNet, 2D", lambda: PlainConvUNet(n_conv_per_stage=1, **_options(2)), images(16, 1)),
    Host("PlainConvUNet, 3D", lambda: PlainConvUNet(n_conv_per_stage=1, **_options(3)), images(16, 1, dims=3)),
    Host(
        "ResidualEncoderUNet, 3D",
        lambda: ResidualEncoderUNet(n_blocks_per_stage=1, **_options(3)),
        images(16, 1, dims=3),
    ),
]
