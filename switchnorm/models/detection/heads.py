"""Heads of two-stage detectors: from regions to classes and boxes, or to masks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.layers import Spec
from switchnorm.models.detection.pool import RegionPool
from switchnorm.models.detection.pyramid import init_uniform, rectified
from switchnorm.models.parts import init_convolutions

#: 3x3 convolutions of a head that has some.
CONVOLUTIONS = 4


class BoxHead(nn.Module):
    """What box heads share: regions are pooled, and classes and boxes are linear in their features.

    Weights of the two start at N(0, 0.01²) and N(0, 0.001²), biases at 0 (Girshick, "Fast R-CNN", ICCV 2015, section
    2.3).

    Args:
        pool: of the regions.
        channels: of the features.
        num_classes: C.
    """

    def __init__(self, pool: RegionPool, channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = pool
        self.cls_score = nn.Linear(channels, 1 + num_classes)
        self.bbox_pred = nn.Linear(channels, 4 * (1 + num_classes))
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """Pooled regions (K, C, side, side) -> their features (K, channels)."""
        raise NotImplementedError

    def forward(self, maps: dict[str, Tensor], boxes: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """Maps and corners of boxes, as of `RegionPool` -> class logits (K, 1 + C), background first, and deltas (K,
        4 (1 + C)).
        """
        x = self.features(self.pool(maps, boxes))
        return self.cls_score(x), self.bbox_pred(x)


class TwoFc(BoxHead):
    """Two linear layers with ReLU, without a normalization (Lin et al., "Feature Pyramid Networks", CVPR 2017).

    Args:
        pool: of the regions.
        width: channels of the maps.
        channels: of both layers.
        num_classes: C.
    """

    def __init__(self, pool: RegionPool, width: int, channels: int, num_classes: int) -> None:
        super().__init__(pool, channels, num_classes)
        side, _ = pool.output_size
        self.fc1 = nn.Linear(width * side * side, channels)
        self.fc2 = nn.Linear(channels, channels)
        for layer in (self.fc1, self.fc2):
            init_uniform(layer)

    def features(self, x: Tensor) -> Tensor:
        """As of `BoxHead`."""
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class FourConvOneFc(BoxHead):
    """Four 3x3 convolutions, each with a normalization and ReLU, and a linear layer (Wu and He, "Group Normalization",
    ECCV 2018, section 4.2).

    Args:
        pool, width, channels, num_classes: as of `TwoFc`; convolutions keep the width.
        norm: the normalization; None for convolutions with a bias.
    """

    def __init__(self, pool: RegionPool, width: int, channels: int, num_classes: int, norm: Spec | None) -> None:
        super().__init__(pool, channels, num_classes)
        side, _ = pool.output_size
        self.convs = nn.Sequential(*(each for _ in range(CONVOLUTIONS) for each in rectified(norm, width, width, 3)))
        init_convolutions(self.convs)
        self.fc = nn.Linear(width * side * side, channels)
        init_uniform(self.fc)

    def features(self, x: Tensor) -> Tensor:
        """As of `BoxHead`."""
        return F.relu(self.fc(self.convs(x).flatten(1)))


class LastStage(BoxHead):
    """The last stage of a body on each region, and the average of its map (He et al., "Deep Residual Learning", CVPR
    2016, appendix A; "conv5" or "res5").

    Args:
        pool: of the regions.
        stage: with a stride of 2.
        channels: of its maps.
        num_classes: C.
    """

    def __init__(self, pool: RegionPool, stage: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__(pool, channels, num_classes)
        self.layer4 = stage

    def features(self, x: Tensor) -> Tensor:
        """As of `BoxHead`."""
        return self.layer4(x).mean((2, 3))


class MaskHead(nn.Module):
    """Four 3x3 convolutions, each with a normalization and ReLU, one transposed to twice the side with ReLU alone, and
    a mask for each class (He et al., "Mask R-CNN", ICCV 2017, figure 4 right).

    Args:
        pool: of the regions.
        width: channels of the maps, and of all convolutions.
        num_classes: C.
        norm: the normalization; None for convolutions with a bias.
    """

    def __init__(self, pool: RegionPool, width: int, num_classes: int, norm: Spec | None) -> None:
        super().__init__()
        self.pool = pool
        self.convs = nn.Sequential(*(each for _ in range(CONVOLUTIONS) for each in rectified(norm, width, width, 3)))
        self.upconv = nn.ConvTranspose2d(width, width, 2, 2)
        self.classify = nn.Conv2d(width, 1 + num_classes, 1)
        init_convolutions(self)
        nn.init.kaiming_normal_(self.upconv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.constant_(self.upconv.bias, 0)  # type: ignore[arg-type]  # there is one

    def forward(self, maps: dict[str, Tensor], boxes: Sequence[Tensor] | Tensor) -> Tensor:
        """Maps and corners of boxes, as of `RegionPool` -> logits (K, 1 + C, 2 side, 2 side)."""
        return self.logits(self.pool(maps, boxes))

    def logits(self, x: Tensor) -> Tensor:
        """Pooled regions (K, width, side, side) -> logits (K, 1 + C, 2 side, 2 side)."""
        return self.classify(F.relu(self.upconv(self.convs(x))))
