"""The region proposal network (Ren et al., "Faster R-CNN", NeurIPS 2015), with this library's sampling and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork

from switchnorm.models.detection.geometry import GEOMETRIES, Geometry
from switchnorm.models.detection.losses import Mean, alone, proposal_losses
from switchnorm.models.detection.prepared import Target
from switchnorm.models.detection.sampling import Sampler, draws_of, in_crowd

#: Overlap of an anchor with an object from which it is positive, and below which it is negative.
POSITIVE, NEGATIVE = 0.7, 0.3
#: Overlap of two proposals above which the worse one goes.
SUPPRESSED = 0.7
#: What tells the draws of anchors from others, see `Sampler`.
ANCHORS = 0x5851F42D


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's network, with another geometry, sampling and divisors.

    Args:
        anchors: makes the anchors, edges.
        head: from maps to logits and deltas.
        per_image: anchors of a picture that the losses are over.
        before, after: proposals of a picture before (of each level) and after suppression, in training and evaluation.
        geometry: of boxes.

    Attributes:
        output_in_training: that training has another output, as of this library's decoders.
        mean_over_processes: from a count to its mean over all processes.
    """

    output_in_training: ClassVar[bool] = True

    def __init__(
        self,
        anchors: AnchorGenerator,
        head: nn.Module,
        *,
        per_image: int,
        before: tuple[int, int],
        after: tuple[int, int],
        geometry: Geometry,
    ) -> None:
        before_by_mode, after_by_mode = (
            dict(zip(("training", "testing"), each, strict=True)) for each in (before, after)
        )
        super().__init__(anchors, head, POSITIVE, NEGATIVE, per_image, 0.5, before_by_mode, after_by_mode, SUPPRESSED)
        self._complete(geometry)

    @classmethod
    def of(cls, network: RegionProposalNetwork) -> ProposalNetwork:
        """torchvision's own network turned into this one, in place."""
        network.__class__ = cls
        assert isinstance(network, ProposalNetwork)
        network._complete(GEOMETRIES["torchvision"])
        return network

    def _complete(self, geometry: Geometry) -> None:
        self.geometry = geometry
        theirs = self.fg_bg_sampler
        self.sampler = Sampler(theirs.batch_size_per_image, theirs.positive_fraction, ANCHORS)
        self.mean_over_processes: Mean = alone

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals and, in training, losses.

        Args:
            images: the pictures; their sizes and that of the batch are what is needed.
            features: maps by name.
            targets: of each picture "boxes" (K, 4), and perhaps "ignored" (M, 4) and "draw" ().

        Returns:
            Of each picture proposals (P, 4), edges, by falling score; and "loss_objectness" and "loss_rpn_box_reg".
        """
        maps = list(features.values())
        outputs = list(zip(*self.head(maps), strict=True))
        # Maps may have few bits, with which no box could be told from its neighbours.
        dtype = torch.promote_types(images.tensors.dtype, torch.float32)
        like = [images.tensors.new_empty((), dtype=dtype).expand(each.shape) for each in maps]
        anchors: Tensor = self.anchor_generator(images, like)[0]
        logits = [_flat(each, 1).squeeze(2) for each, _ in outputs]
        deltas = [_flat(each, 4) for _, each in outputs]
        proposals = self.propose(logits, deltas, anchors, images.image_sizes)
        if not self.training or targets is None:
            return proposals, {}
        with torch.no_grad():
            drawn = self.drawn(anchors, targets)
        return proposals, self.losses(torch.cat(logits, 1), torch.cat(deltas, 1), anchors, targets, drawn)

    @torch.no_grad()
    def propose(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """The best boxes of each picture that do not overlap much, P of them at most.

        Args:
            logits: of each level, (N, A).
            deltas: of each level, (N, A, 4).
            anchors: of all levels, (sum of A, 4).
            sizes: height and width of each picture.

        Returns:
            N tensors (P, 4), by falling score.
        """
        best, boxes, levels = [], [], []
        first = 0
        for level, (scores, codes) in enumerate(zip(logits, deltas, strict=True)):
            count = scores.shape[1]
            values, index = scores.topk(min(count, self.pre_nms_top_n()), 1)
            codes = codes.gather(1, index[:, :, None].expand(-1, -1, 4)).to(anchors.dtype)
            here = anchors[first : first + count][index]
            boxes.append(self.box_coder.decode_single(codes.flatten(0, 1), here.flatten(0, 1)).view_as(codes))
            best.append(values)
            levels.append(torch.full_like(index[0], level))
            first += count
        scores, decoded, level_of = (
            torch.cat(best, 1).to(anchors.dtype).sigmoid(),
            torch.cat(boxes, 1),
            torch.cat(levels),
        )
        pictures = zip(decoded, scores, sizes, strict=True)
        return [self._kept(box, score, level_of, size) for box, score, size in pictures]

    def _kept(self, boxes: Tensor, scores: Tensor, levels: Tensor, size: tuple[int, int]) -> Tensor:
        """What is proposed of one picture's decoded boxes (P, 4)."""
        boxes = self.geometry.clip(boxes, size)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= self.min_size).all(1) & (scores >= self.score_thresh)
        boxes, scores, levels = boxes[large], scores[large], levels[large]
        return boxes[self.geometry.suppress(boxes, scores, levels, self.nms_thresh)[: self.post_nms_top_n()]]

    def drawn(self, anchors: Tensor, targets: Sequence[Target]) -> tuple[Tensor, Tensor, Tensor]:
        """Which anchors the losses are over.

        Returns:
            Indices of positive and negative anchors among those of all pictures, (k,) each, and the boxes of the
            positive ones' objects, (k, 4).
        """
        labels, objects = [], []
        for target in targets:
            label, matched = self._labelled(anchors, target)
            labels.append(label)
            objects.append(matched)
        positive, negative, boxes = [], [], []
        for i, (some, rest) in enumerate(self.sampler(labels, draws_of(targets))):
            positive.append(some + i * len(anchors))
            negative.append(rest + i * len(anchors))
            boxes.append(targets[i]["boxes"][objects[i][some]].to(anchors.dtype))
        return torch.cat(positive), torch.cat(negative), torch.cat(boxes)

    def _labelled(self, anchors: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """1, 0 or -1 (neither) for each anchor, and the index of its object."""
        boxes = target["boxes"]
        if len(boxes) == 0:
            labels = torch.zeros(len(anchors), device=anchors.device, dtype=torch.int64)
            matched = labels
        else:
            matched = self.proposal_matcher(self.box_similarity(boxes.to(anchors.dtype), anchors))
            # The matcher's -1 is background, its -2 between the thresholds.
            labels = (matched + 1).clamp(max=1)
            matched = matched.clamp(min=0)
        crowd = in_crowd(anchors, target)
        return labels if crowd is None else labels.masked_fill(crowd & (labels == 0), -1), matched

    def losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        targets: Sequence[Target],
        drawn: tuple[Tensor, Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """The losses over the anchors that are drawn.

        Args:
            logits: (N, A) of all levels.
            deltas: (N, A, 4).
            anchors: (A, 4).
            targets: of N pictures.
            drawn: what `drawn` returns.
        """
        positive, negative, boxes = drawn
        wanted = self.box_coder.encode_single(boxes, anchors[positive % len(anchors)])
        objectness, box = proposal_losses(
            logits.flatten(), deltas.flatten(0, 1), positive, negative, wanted, self.mean_over_processes
        )
        return {"loss_objectness": objectness, "loss_rpn_box_reg": box}


def _flat(x: Tensor, values: int) -> Tensor:
    """(N, A values, h, w) -> (N, h w A, values), in the order of anchors."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, values)


def anchors_of_first_cell(network: ProposalNetwork) -> list[Tensor]:
    """The anchors of each level's first cell as corners, (A, 4) float64."""
    cells: list[Any] = network.anchor_generator.cell_anchors
    return [network.geometry.corners(cell.double().cpu()) for cell in cells]
