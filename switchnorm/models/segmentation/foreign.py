"""Networks of torchvision for semantic segmentation."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm.errors import InputError, unknown
from switchnorm.models.options import SHARED


class Supervised(nn.Module):
    """torchvision's FCN or DeepLabV3 with its auxiliary classifier, which here works in training alone.

    Args:
        network: torchvision's, whose parts this takes over under the same names.

    Attributes:
        output_in_training: as of this library's `Decoder`.
    """

    output_in_training: ClassVar[bool] = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone = network.get_submodule("backbone")
        self.classifier = network.get_submodule("classifier")
        self.aux_classifier = network.get_submodule("aux_classifier")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> "out": logits (N, K, H, W); in training also "aux"."""
        maps = self.backbone(x)
        logits = {"out": self.classifier(maps["out"])}
        if self.training:
            logits["aux"] = self.aux_classifier(maps["aux"])
        size = x.shape[2:]
        return {name: F.interpolate(y, size=size, mode="bilinear", align_corners=False) for name, y in logits.items()}


def build(name: str, *, num_classes: int = 21, **options: Any) -> nn.Module:
    """A network of torchvision with weights at random, which gives logits at the size of the picture.

    Args:
        name: as torchvision knows it.
        num_classes: K.
        options: `aux_loss`, whether training supervises an earlier stage too; LR-ASPP has none.

    Raises:
        InputError: any other option, which torchvision would take and ignore.
    """
    from torchvision.models import get_model

    known = () if name.startswith("lraspp") else ("aux_loss",)
    for option, value in options.items():
        if option not in known:
            raise unknown(f"option of {name!r}", option, [*known, *SHARED])
        if not isinstance(value, bool):
            raise InputError(f"option 'aux_loss' of {name!r} takes a bool, got {value!r}")
    model = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **options)
    return Supervised(model) if options.get("aux_loss") else model
