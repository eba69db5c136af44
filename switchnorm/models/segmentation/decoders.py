"""Decoders: from the maps of an encoder's stages to the logits of every pixel.

Modules are called as in the published segmentation networks (Zhou et al., "Semantic Understanding of Scenes through the
ADE20K Dataset", IJCV 2019), so that their checkpoints load. Convolutions that feed a normalization are what it asks
for; classifiers are plain. All maps are resized bilinearly, without aligned corners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from switchnorm.layers import Spec
from switchnorm.models.parts import init_convolutions, rectified

#: Sides of the maps that pyramid pooling averages to, and the channels of each.
POOL_SIDES, POOL_CHANNELS = (1, 2, 3, 6), 512


class Decoder(nn.Module):
    """What decoders share: the logits, and those of the deep supervision in training.

    Deep supervision is a second, small head on the third stage's maps, which only training needs (Zhao et al.,
    "Pyramid Scene Parsing Network", CVPR 2017, section 3.3).

    Attributes:
        output_in_training: that training has another output, so that `surgery.evaluation_mode` leaves this module in
            training mode, though not what is inside of it.
    """

    output_in_training: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.cbr_deepsup: nn.Module | None = None

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """The maps of four stages -> "out": logits (N, K, h, w); in training with deep supervision also "aux"."""
        logits = {"out": self.logits(maps)}
        if self.training and self.cbr_deepsup is not None:
            logits["aux"] = self.supervision(self.cbr_deepsup(maps[2]))
        return logits

    def start(self, published: bool) -> None:
        """Draw the weights of convolutions by their input (`init_convolutions`); biases become 0.

        Args:
            published: whether the rest starts as in the published code (SwitchNorm_Segmentation, models/models.py, and
                the framework under it, CSAILVision/semantic-segmentation-pytorch): the biases of convolutions as
                PyTorch draws them, and the scales of Batch Norm 1 and its shifts 1e-4. Other normalizations start as
                ever.
        """
        init_convolutions(self, "fan_in", zero_biases=not published)
        for module in self.modules() if published else ():
            if isinstance(module, _BatchNorm) and module.affine:
                nn.init.ones_(module.weight)
                nn.init.constant_(module.bias, 1e-4)

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """The maps of four stages -> logits (N, K, h, w)."""
        raise NotImplementedError

    def supervision(self, x: Tensor) -> Tensor:
        """Features of the deep supervision -> its logits, (N, C, h, w) -> (N, K, h, w)."""
        raise NotImplementedError


class C1(Decoder):
    """One 3x3 convolution to a quarter of the channels, and the classifier of each pixel.

    Args:
        channels: of the stages' maps.
        norm: the normalization.
        num_classes: K.
        deep_supervision: whether training supervises the third stage too.
        published_start: as of `Decoder.start`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        norm: Spec,
        num_classes: int,
        *,
        deep_supervision: bool,
        published_start: bool = False,
    ) -> None:
        super().__init__()
        width = channels[3] // 4
        self.cbr = rectified(norm, channels[3], width, 3)
        if deep_supervision:
            self.cbr_deepsup = rectified(norm, channels[2], width, 3)
        self.conv_last = nn.Conv2d(width, num_classes, 1)
        if deep_supervision:
            self.conv_last_deepsup = nn.Conv2d(width, num_classes, 1)
        self.start(published_start)

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """As of `Decoder`, at the last map's size."""
        return self.conv_last(self.cbr(maps[3]))

    def supervision(self, x: Tensor) -> Tensor:
        """As of `Decoder`."""
        return self.conv_last_deepsup(x)


class PyramidPooling(Decoder):
    """Averages over ever smaller parts of the map beside the map itself.

    Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, section 3.2. The average of a whole map is one pixel, whose
    variance is 0, where the published code has NaN; Batch Norm of a single picture refuses it in training.

    Args:
        channels, norm, num_classes, deep_supervision, published_start: as of `C1`.
        dropout: the share of channels that training drops before the classifiers.
    """

    def __init__(
        self,
        channels: Sequence[int],
        norm: Spec,
        num_classes: int,
        *,
        deep_supervision: bool,
        dropout: float = 0.1,
        published_start: bool = False,
    ) -> None:
        super().__init__()
        pooled = (rectified(norm, channels[3], POOL_CHANNELS, 1) for _ in POOL_SIDES)
        self.ppm = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *layers) for side, layers in zip(POOL_SIDES, pooled, strict=True)
        )
        width = channels[3] // 4
        if deep_supervision:
            self.cbr_deepsup = rectified(norm, channels[2], width, 3)
        self.conv_last = nn.Sequential(
            *rectified(norm, channels[3] + len(POOL_SIDES) * POOL_CHANNELS, POOL_CHANNELS, 3),
            nn.Dropout2d(dropout),
            nn.Conv2d(POOL_CHANNELS, num_classes, 1),
        )
        if deep_supervision:
            self.conv_last_deepsup = nn.Conv2d(width, num_classes, 1)
            self.dropout_deepsup = nn.Dropout2d(dropout)
        self.start(published_start)

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """As of `Decoder`, at the last map's size."""
        last = maps[3]
        return self.conv_last(torch.cat([last, *(resized(branch(last), last) for branch in self.ppm)], 1))

    def supervision(self, x: Tensor) -> Tensor:
        """As of `Decoder`."""
        return self.conv_last_deepsup(self.dropout_deepsup(x))


class UPerNet(Decoder):
    """Pyramid pooling on the last stage, and a feature pyramid over all four.

    Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, section 3.1. As published, and unlike
    in `PyramidPooling`, averages are resized before their convolution.

    Args:
        channels, norm, num_classes, published_start: as of `C1`.
        width: channels of the feature pyramid's maps.
    """

    def __init__(
        self, channels: Sequence[int], norm: Spec, num_classes: int, *, width: int, published_start: bool = False
    ) -> None:
        super().__init__()
        self.ppm_pooling = nn.ModuleList(nn.AdaptiveAvgPool2d(side) for side in POOL_SIDES)
        self.ppm_conv = nn.ModuleList(rectified(norm, channels[3], POOL_CHANNELS, 1) for _ in POOL_SIDES)
        self.ppm_last_conv = rectified(norm, channels[3] + len(POOL_SIDES) * POOL_CHANNELS, width, 3)
        self.fpn_in = nn.ModuleList(rectified(norm, each, width, 1) for each in channels[:3])
        self.fpn_out = nn.ModuleList(nn.Sequential(rectified(norm, width, width, 3)) for _ in channels[:3])
        self.conv_last = nn.Sequential(rectified(norm, 4 * width, width, 3), nn.Conv2d(width, num_classes, 1))
        self.start(published_start)

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """As of `Decoder`, at the first map's size."""
        last = maps[3]
        pooled = [resized(pool(last), last) for pool in self.ppm_pooling]
        pooled = [conv(each) for conv, each in zip(self.ppm_conv, pooled, strict=True)]
        x = self.ppm_last_conv(torch.cat([last, *pooled], 1))
        pyramid = [x]
        for i in (2, 1, 0):
            x = self.fpn_in[i](maps[i]) + resized(x, maps[i])
            pyramid.insert(0, self.fpn_out[i](x))
        first, *others = pyramid
        return self.conv_last(torch.cat([first, *(resized(each, first) for each in others)], 1))


#: What stands behind the "+" of a network's name, and the decoder that it makes, of an encoder's channels, the
#: normalization and the number of classes.
DECODERS: dict[str, Callable[..., Decoder]] = {
    "c1_bilinear": partial(C1, deep_supervision=False),
    "c1_bilinear_deepsup": partial(C1, deep_supervision=True),
    "ppm_bilinear": partial(PyramidPooling, deep_supervision=False),
    "ppm_bilinear_deepsup": partial(PyramidPooling, deep_supervision=True),
    "upernet": partial(UPerNet, width=512),
    "upernet_lite": partial(UPerNet, width=256),
}


def resized(x: Tensor, like: Tensor) -> Tensor:
    """`x` (N, C, h, w) at the height and width of `like`."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
