"""Networks for semantic segmentation."""

from collections.abc import Callable

from torch import nn

from switchnorm.models.family import Family
from switchnorm.models.imagenet.resnet import BLOCKS
from switchnorm.models.segmentation.decoders import DECODERS
from switchnorm.models.segmentation.network import plain, pooling

ENCODERS = tuple(f"resnet{depth}{dilation}" for depth in BLOCKS for dilation in ("", "_dilated16", "_dilated8"))


def _family(build: Callable[..., nn.Module], begin: str) -> Family:
    """The networks whose decoders' names begin so."""
    decoders = [name for name in DECODERS if name.startswith(begin)]
    return Family(
        rf"resnet(\d+)(?:_dilated(\d+))?\+({'|'.join(decoders)})",
        build,
        tuple(f"{encoder}+{decoder}" for encoder in ENCODERS for decoder in decoders),
        num_classes=150,
        task="segmentation",
    )


FAMILIES: tuple[Family, ...] = (_family(plain, "c1"), _family(pooling, "ppm"), _family(plain, "upernet"))
