"""Residual networks as encoders: the maps of all stages, at an output stride of 32, 16 or 8."""

from __future__ import annotations

from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.layers import Spec
from switchnorm.models.blocks import Layers
from switchnorm.models.imagenet.resnet import ResidualStages
from switchnorm.models.parts import init_convolutions

#: Dilations of the four stages by the output stride.
DILATIONS = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}


class Encoder(ResidualStages):
    """The stem and the stages of a ResNet, the last of them dilated for a smaller output stride.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Yu et al., "Dilated Residual Networks",
    CVPR 2017. Normalizations are called sn1, sn2, ... where they mix statistics, as in the published checkpoints of SN
    and SSN, and else bn1, bn2, ... as torchvision's. Convolutions start as `init_convolutions` draws them.

    Args:
        depth: 18, 34, 50, 101 or 152.
        stride: how many pixels of a picture one of the last map stands for, in each direction: 32, 16 or 8.
        norm: the normalization of every convolution.
        in_channels: of the pictures.
        deep_stem: as of `ResidualStages`; published weights of a classifier have the usual stem.

    Raises:
        InputError: another depth or stride; no channels.
    """

    def __init__(self, depth: int, stride: int, norm: Spec, *, in_channels: int = 3, deep_stem: bool = False) -> None:
        if stride not in DILATIONS:
            nearest = min(DILATIONS, key=lambda known: abs(known - stride))
            raise InputError(f"output stride {stride} is impossible; the nearest valid stride is {nearest}")
        layers = Layers(norm, "sn" if norm.registration.mixes else "bn")
        super().__init__(depth, layers, dilations=DILATIONS[stride], deep_stem=deep_stem, in_channels=in_channels)
        init_convolutions(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, in_channels, H, W) -> the maps of the stages, (N, C, H / s, W / s), s from 4 to the output stride."""
        first = self.layer1(self.stem(x))
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)
