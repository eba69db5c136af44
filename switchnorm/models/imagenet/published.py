"""The networks for ImageNet as the papers' authors published them, each with any normalization.

`resnetv1sn*`, `resnetv2sn*`: Luo et al., "Differentiable Learning-to-Normalize via Switchable Normalization", ICLR
2019.
`resnetv1ssn*`: Shao et al., "SSN: Learning Sparse Switchable Normalization via SparsestMax", CVPR 2019.
`l_*`: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019.
"""

from __future__ import annotations

from torch import nn

from switchnorm.layers import Spec
from switchnorm.models.blocks import Layers
from switchnorm.models.imagenet.resnet import BOTTLENECK_DEPTHS, PreActivationResNet, ResNet, check_depth
from switchnorm.models.parts import at_least_one


def resnet_v1(
    published: str,
    depth: int,
    *,
    norm: Spec,
    num_classes: int,
    dropout: float = 0.5,
    last_gamma: bool = True,
    in_channels: int = 3,
) -> ResNet:
    """A ResNet with normalizations named sn1, sn2, ...

    Args:
        published: "ssn" for the stem of the SSN networks, whose pooling pads at the end alone; "sn" for the usual one.
        depth: 18, 34, 50, 101 or 152.
        norm: the normalization of every convolution.
        num_classes: the number of logits.
        dropout: the share of features that training drops before the classifier.
        last_gamma: whether the scale of the last normalization of each block starts at 0.
        in_channels: of the pictures.

    Raises:
        InputError: another depth; no channels.
    """
    pool = nn.MaxPool2d(3, 2, ceil_mode=True) if published == "ssn" else None
    layers = Layers(norm, "sn")
    return ResNet(
        depth,
        layers,
        num_classes=num_classes,
        dropout=dropout,
        pool=pool,
        last_gamma=last_gamma,
        in_channels=in_channels,
    )


def resnet_v2(
    depth: int,
    *,
    norm: Spec,
    num_classes: int,
    dropout: float = 0.5,
    in_channels: int = 3,
) -> PreActivationResNet:
    """A pre-activation ResNet with normalizations named sn1, sn2, ...; arguments and errors as of `resnet_v1`."""
    layers = Layers(norm, "sn")
    return PreActivationResNet(depth, layers, num_classes=num_classes, dropout=dropout, in_channels=in_channels)


def l_resnet(
    depth: int,
    *,
    norm: Spec,
    num_classes: int,
    dropout: float = 0.0,
    last_gamma: bool = False,
    in_channels: int = 3,
) -> ResNet:
    """A ResNet with normalizations named bn1, bn2, ... and no dropout; arguments and errors as of `resnet_v1`."""
    layers = Layers(norm, "bn")
    return ResNet(
        depth, layers, num_classes=num_classes, dropout=dropout, last_gamma=last_gamma, in_channels=in_channels
    )


def l_resnext(
    depth: int,
    *,
    norm: Spec,
    num_classes: int,
    dropout: float = 0.0,
    last_gamma: bool = False,
    base_width: int = 4,
    cardinality: int = 32,
    in_channels: int = 3,
) -> ResNet:
    """A ResNeXt with normalizations named bn1, bn2, ...; with norm "bn" it is that of bearpaw/pytorch-classification.

    Args:
        depth: 50, 101 or 152.
        norm, num_classes, dropout, last_gamma, in_channels: as of `l_resnet`.
        base_width: channels of a group in the first stage; twice as many in each of the next.
        cardinality: groups of the 3x3 convolutions.

    Raises:
        InputError: another depth; a base width, cardinality or number of channels below 1.
    """
    check_depth(depth, BOTTLENECK_DEPTHS)
    at_least_one(base_width=base_width, cardinality=cardinality)
    layers = Layers(norm, "bn")
    return ResNet(
        depth,
        layers,
        num_classes=num_classes,
        dropout=dropout,
        last_gamma=last_gamma,
        groups=cardinality,
        width=base_width,
        in_channels=in_channels,
    )
