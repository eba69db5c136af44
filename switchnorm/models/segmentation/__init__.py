"""Networks for semantic segmentation."""

from collections.abc import Callable

from torch import nn

from switchnorm.models.family import Family
from switchnorm.models.imagenet.resnet import BLOCKS
from switchnorm.models.segmentation.network import WIDTHS, c1, pyramid_pooling, upernet

ENCODERS = tuple(f"resnet{depth}{dilation}" for depth in BLOCKS for dilation in ("", "_dilated16", "_dilated8"))


def _family(pattern: str, build: Callable[..., nn.Module], decoders: tuple[str, ...]) -> Family:
    return Family(
        rf"resnet(\d+)(?:_dilated(\d+))?\+{pattern}",
        build,
        tuple(f"{encoder}+{decoder}" for encoder in ENCODERS for decoder in decoders),
        num_classes=150,
        task="segmentation",
    )


FAMILIES: tuple[Family, ...] = (
    _family(r"c1_bilinear(?:_(deepsup))?", c1, ("c1_bilinear", "c1_bilinear_deepsup")),
    _family(r"ppm_bilinear(?:_(deepsup))?", pyramid_pooling, ("ppm_bilinear", "ppm_bilinear_deepsup")),
    _family(rf"({'|'.join(WIDTHS)})", upernet, tuple(WIDTHS)),
)
