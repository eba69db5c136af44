"""The feature pyramid of detectors without proposals: from stride 8 to 128."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.layers import Spec
from switchnorm.models.detection.pyramid import Pyramid, init_uniform


class DensePyramid(Pyramid):
    """A pyramid of C3, C4 and C5, and two coarser maps by 3x3 convolutions with a stride of 2, without a normalization.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4: P6 of C5, and P7 of P6 after ReLU. FCOS
    (Tian et al., PAMI 2021, section 2.1) has P6 of P5.

    Args:
        channels: of the stages' maps, C2 to C5; the first is not used.
        width: channels of all maps that are made.
        norm: the normalization of the others; None for convolutions with a bias.
        of_stage: whether P6 is of C5, and not of P5.
    """

    def __init__(self, channels: Sequence[int], width: int, norm: Spec | None, *, of_stage: bool) -> None:
        super().__init__(channels[1:], width, norm)
        self.of_stage = of_stage
        self.p6 = nn.Conv2d(channels[-1] if of_stage else width, width, 3, 2, 1)
        self.p7 = nn.Conv2d(width, width, 3, 2, 1)
        for each in (self.p6, self.p7):
            init_uniform(each)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """The maps of the stages, C2 to C5 -> "p3" ... "p7", (N, width, h, w) each, at their strides."""
        found = dict(zip(("p3", "p4", "p5"), super().forward(maps[1:]).values(), strict=True))
        found["p6"] = self.p6(maps[-1] if self.of_stage else found["p5"])
        found["p7"] = self.p7(F.relu(found["p6"]))
        return found
