"""Networks for pictures of the size of ImageNet's."""

from collections.abc import Callable, Iterable

from torch import nn

from switchnorm.models.family import Family
from switchnorm.models.imagenet.published import l_resnet, l_resnext, resnet_v1, resnet_v2
from switchnorm.models.imagenet.resnet import BLOCKS, BOTTLENECK_DEPTHS


def _family(prefix: str, pattern: str, build: Callable[..., nn.Module], norm: str, depths: Iterable[int]) -> Family:
    return Family(pattern, build, tuple(f"{prefix}{depth}" for depth in depths), norm, num_classes=1000)


FAMILIES: tuple[Family, ...] = (
    _family("resnetv1sn", r"resnetv1(sn)(\d+)", resnet_v1, "sn", BLOCKS),
    _family("resnetv1ssn", r"resnetv1(ssn)(\d+)", resnet_v1, "ssn", BLOCKS),
    _family("resnetv2sn", r"resnetv2sn(\d+)", resnet_v2, "sn", BLOCKS),
    _family("resnetv2ssn", r"resnetv2ssn(\d+)", resnet_v2, "ssn", BLOCKS),
    _family("l_resnet", r"l_resnet(\d+)", l_resnet, "gn+ws", BLOCKS),
    _family("l_resnext", r"l_resnext(\d+)", l_resnext, "gn+ws", BOTTLENECK_DEPTHS),
)
