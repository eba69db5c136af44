"""Networks of timm as bodies of detectors: "timm:tf_efficientnet_lite0_fpn64+faster_2fc"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.layers import Spec

#: The strides of the maps that detectors take.
STRIDES = (4, 8, 16, 32)


def timm_body(name: str, norm: Spec | None, *, in_channels: int = 3) -> nn.Module:
    """timm's network without its classifier, which gives the maps of four strides, (N, C, H / s, W / s) each.

    It is timm's own module, so that its parts have timm's names, by which weights of the classifier fit and parts are
    frozen: "body.conv_stem", "body.blocks.0". `channels` are those of the maps.

    Args:
        name: "timm:NAME".
        norm: what its normalization is switched to; None leaves it as it is built.
        in_channels: of the pictures.

    Raises:
        InputError: an unknown network, one without maps of these strides, or timm is not installed.
    """
    from switchnorm.models.foreign import features
    from switchnorm.models.segmentation.timm_encoder import switched

    make = features(name)
    try:
        network: Any = make(out_indices=(-4, -3, -2, -1), in_chans=in_channels)
    # timm says by any error, often without words, that a network has not so many maps.
    except Exception as error:
        raise InputError(f"{_lacks(name)}; choose another body, such as 'timm:resnet18'") from error
    strides = tuple(network.feature_info.reduction())
    if strides != STRIDES:
        found = ", ".join(map(str, strides))
        raise InputError(f"{_lacks(name)}, but of {found}; choose another body, such as 'timm:resnet18'")
    channels = tuple(network.feature_info.channels())
    if norm is not None:
        network = switched(name, network, norm, "the other parts")
    network.channels = channels
    if str(getattr(network, "output_fmt", "")).endswith("NHWC"):
        network.register_forward_hook(_channels_first)
    return network


def _lacks(name: str) -> str:
    return f"{name!r} gives no maps of the strides {', '.join(map(str, STRIDES))}, which detectors take"


def _channels_first(module: nn.Module, inputs: tuple[Any, ...], maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps (N, h, w, C), as of some transformers -> (N, C, h, w)."""
    return [each.permute(0, 3, 1, 2) for each in maps]
