"""torchvision's RetinaNet, FCOS and SSD under this library's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from switchnorm.models.detection.dense import DenseDetector
from switchnorm.models.detection.dense_rule import Outputs, Rule
from switchnorm.models.detection.fcos_rule import FcosRule
from switchnorm.models.detection.one_picture import DensePicture
from switchnorm.models.detection.prepared import Prepared
from switchnorm.models.detection.retina_rule import RetinaRule
from switchnorm.models.detection.ssd_rule import SsdRule
from switchnorm.models.detection.traced import number
from switchnorm.models.parts import SmallestSide

#: The side from which on SSD's last convolutions, which do not pad, have something left.
SMALLEST_SSD = 268


class ForeignDense(DenseDetector):
    """A detector of torchvision without proposals.

    torchvision's SSDs squeeze every picture to one size. Here pictures keep their shape, and default boxes are laid on
    whatever they are padded to.

    Args:
        network: torchvision's, whose parts this takes over under the same names.
        transform: as of `DenseDetector`.
    """

    def __init__(self, network: RetinaNet | FCOS | SSD, transform: Prepared) -> None:
        super().__init__(transform, network.anchor_generator, _rule(network))
        self.backbone = network.backbone
        self.head = network.head
        #: The size that torchvision shows the network, and the strides that hold for it alone.
        self.size = network.transform.fixed_size
        self.steps = getattr(self.anchor_generator, "steps", None)
        self.smallest = SmallestSide(1 if self.steps is None else SMALLEST_SSD)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the maps by torchvision's names, the finest first."""
        return dict(self.backbone(self.smallest(images)))

    def outputs(self, maps: Mapping[str, Tensor]) -> Outputs:
        """As of `DenseDetector`."""
        found: Outputs = self.head(list(maps.values()))
        return found

    def anchors(self, images: ImageList, maps: Sequence[Tensor]) -> Tensor:
        """As of `DenseDetector`."""
        if self.steps is not None:
            height, width = images.tensors.shape[-2:]
            self.anchor_generator.steps = self.steps if (height, width) == self.size else None
        return super().anchors(images, maps)

    def traced_anchors(self, images: ImageList, maps: Sequence[Tensor]) -> Tensor:
        """As of `DenseDetector`."""
        if isinstance(self.anchor_generator, DefaultBoxGenerator):
            return self._default_boxes(self.anchor_generator, images.tensors, maps)
        return super().traced_anchors(images, maps)

    def _default_boxes(self, generator: DefaultBoxGenerator, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Those of both distances between cells, of which the size of the pictures chooses."""
        dtype = torch.promote_types(images.dtype, torch.float32)
        size, grids = list(images.shape[-2:]), [list(each.shape[-2:]) for each in maps]
        height, width = (number(images.new_empty((), dtype=dtype), side) for side in size)
        generator.steps = None
        boxes = generator._grid_default_boxes(grids, size, dtype).to(images.device)
        if self.steps is not None:
            generator.steps = self.steps
            own = generator._grid_default_boxes(grids, size, dtype).to(images.device)
            boxes = torch.where((height == self.size[0]) & (width == self.size[1]), own, boxes)
        scale = torch.stack([width, height])
        centres, half = boxes[:, :2], 0.5 * boxes[:, 2:]
        return torch.cat([(centres - half) * scale, (centres + half) * scale], 1)

    def one_picture(self) -> DensePicture:
        """As of `DenseDetector`."""
        return DensePicture(self, self.smallest.side)


def _rule(network: RetinaNet | FCOS | SSD) -> Rule:
    """The rule of torchvision's network, with its settings."""
    settings = (network.score_thresh, network.nms_thresh, network.detections_per_img, network.topk_candidates)
    # The heads' first column is the background's, also where nothing is ever learned of it.
    if isinstance(network, FCOS):
        points = FcosRule(1, *settings)
        points.radius = network.center_sampling_radius
        return points
    boxes = SsdRule(1, *settings) if isinstance(network, SSD) else RetinaRule(1, *settings)
    boxes.matcher = network.proposal_matcher
    if isinstance(boxes, SsdRule):
        boxes.negatives = network.neg_to_pos_ratio
    else:
        boxes.box_loss = network.head.regression_head._loss_type  # another one in retinanet_resnet50_fpn_v2
    return boxes
