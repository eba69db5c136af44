"""A tiny Mask R-CNN of torchvision's, with norms in its heads, in pictures that need no resizing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

SIDE, WIDTH = 64, 8


class Body(nn.Module):
    """Two maps of 8 channels, of strides 4 and 8."""

    out_channels = WIDTH

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, 4, 1, bias=False), norm(WIDTH), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, 2, 1, bias=False), norm(WIDTH), nn.ReLU())
        self.fpn = FeaturePyramidNetwork([WIDTH, WIDTH], WIDTH, norm_layer=norm)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.stem(x)
        maps: dict[str, Tensor] = self.fpn({"0": first, "1": self.deep(first)})
        return maps


def mask_rcnn(norm: Callable[[int], nn.Module] = nn.BatchNorm2d, seed: int = 0) -> Any:
    """Three classes, background among them; of every picture all proposals are taken, so that no sampler draws."""
    torch.manual_seed(seed)
    names = ["0", "1"]
    box_head = FastRCNNConvFCHead((WIDTH, 5, 5), [WIDTH, WIDTH], [16], norm_layer=norm)
    mask_head = MaskRCNNHeads(WIDTH, [WIDTH, WIDTH], 1, norm_layer=norm)
    model = MaskRCNN(
        Body(norm),
        num_classes=None,
        min_size=SIDE,
        max_size=SIDE,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,)), ((0.5, 1.0),) * 2),
        rpn_pre_nms_top_n_train=30,
        rpn_post_nms_top_n_train=12,
        rpn_batch_size_per_image=1 << 12,
        rpn_positive_fraction=1.0,
        box_roi_pool=MultiScaleRoIAlign(names, 5, 2),
        box_head=box_head,
        box_predictor=_Predictor(16),
        box_batch_size_per_image=1 << 12,
        box_positive_fraction=1.0,
        mask_roi_pool=MultiScaleRoIAlign(names, 6, 2),
        mask_head=mask_head,
        mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, 3),
    )
    for name, parameter in model.named_parameters():
        # Scales, shifts and logits that differ, so that a mistake in any of them shows.
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.3)
    return model.double()


class _Predictor(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.classes, self.deltas = nn.Linear(channels, 3), nn.Linear(channels, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(x), self.deltas(x)


def pictures(
    count: int, seed: int = 0, empty: tuple[int, ...] = (), side: int = SIDE
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Pictures of noise with one to three objects each, none in those of `empty`, in float64."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, side, side, generator=generator, dtype=torch.float64) for _ in range(count)]
    targets = []
    for index in range(count):
        objects = 0 if index in empty else index % 3 + 1
        corner = torch.rand(objects, 2, generator=generator) * 30
        boxes = torch.cat((corner, corner + 12 + torch.rand(objects, 2, generator=generator) * 20), 1).double()
        masks = torch.zeros(objects, side, side, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        labels = torch.randint(1, 3, (objects,), generator=generator)
        targets.append({"boxes": boxes, "labels": labels, "masks": masks, "draw": torch.tensor(100 + index)})
    return images, targets


def outputs(model: Any, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A training pass's losses as sums over regions, which add up over the parts of a batch, and sums over anchors."""
    counts: dict[str, int] = {}
    anchors: list[Tensor] = []
    watched = {"box": model.roi_heads.box_roi_pool, "mask": model.roi_heads.mask_roi_pool}
    handles = [
        pool.register_forward_hook(lambda _, __, pooled, name=name: counts.__setitem__(name, len(pooled)))
        for name, pool in watched.items()
    ]
    handles.append(model.rpn.head.register_forward_hook(lambda _, __, found: anchors.extend((*found[0], *found[1]))))
    losses = model(images, targets)
    for handle in handles:
        handle.remove()
    box, mask = counts["box"], counts["mask"]
    return {
        "classes": losses["loss_classifier"] * box,
        "boxes": losses["loss_box_reg"] * box,
        "masks": losses["loss_mask"] * mask,
        "anchors": torch.stack([each.sin().sum() for each in anchors]).sum(),
    }


def uneven(model: Any) -> Any:
    """The model in training mode, with logits of mixtures that are not all the same."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith(("mean_weight", "var_weight")):
            nn.init.normal_(parameter, 1.0 / 3, 0.2, generator=generator)
    return model.train()
