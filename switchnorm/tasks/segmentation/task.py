"""Semantic segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import SumMetric

from switchnorm.data import Dataset
from switchnorm.data.segmentation import IGNORED, Scene
from switchnorm.errors import InputError
from switchnorm.tasks.segmentation.confusion import ConfusionMatrix, Scores
from switchnorm.tasks.segmentation.inference import Inference
from switchnorm.tasks.segmentation.prediction import predict
from switchnorm.tasks.segmentation.words import class_lines
from switchnorm.tasks.task import MakeOptimizer, Noise, Task

if TYPE_CHECKING:
    from switchnorm.config.schema import Config


class Segmentation(Task):
    """Cross entropy per pixel, and what the ADE20K benchmark measures (Zhou et al., CVPR 2017).

    A training batch is (images (N, 3, H, W), labels (N, h, w)): the loss is taken at the labels' resolution, and is the
    mean over the pixels that count, those of all processes together. A batch without any has no gradient, is in no mean
    of the epoch, and its logged loss is NaN. A batch of validation is a list of scenes, each
    predicted at its original size, averaged over mirror images and scales.

    Logs "loss" in every training step, and "val_loss", "val_accuracy" (of pixels), "val_mean_iou" (over all classes, an
    absent one counting 0) and "val_overall" (the mean of these two) after validation, over the pixels of all processes
    together.

    Args:
        model: images -> {"out": logits (N, K, h', w')} and, in training, the logits "aux" of a supervised inner layer.
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes, in training.
        deep_supervision: weight of the loss of "aux".
        inference: how evaluation runs the network, besides the scales.
        make_optimizer, channels_last: as `Task`.

    Attributes:
        scores: of the last validation.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        label_smoothing: float = 0.0,
        deep_supervision: float = 0.4,
        inference: Inference | None = None,
        make_optimizer: MakeOptimizer | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(model, make_optimizer, channels_last)
        self.label_smoothing = label_smoothing
        self.deep_supervision = deep_supervision
        self.inference = inference or Inference()
        self.scores: Scores | None = None
        self.confusion = ConfusionMatrix(num_classes)
        self.val_loss = SumMetric(nan_strategy=math.nan)  # which would leave out NaN

    @classmethod
    def build(
        cls, config: Config, model: nn.Module, num_classes: int, make_optimizer: MakeOptimizer | None = None
    ) -> Segmentation:
        """As `Task.build`."""
        return cls(
            model,
            num_classes,
            label_smoothing=config.train.label_smoothing,
            deep_supervision=config.own.deep_supervision,
            inference=config.own.inference(),
            make_optimizer=make_optimizer,
            channels_last=config.train.channels_last,
        )

    @staticmethod
    def logits(output: Any) -> Any:
        """The logits without those of the supervised inner layer, (N, K, h, w)."""
        return output["out"]

    @staticmethod
    def noise(samples: int, shape: tuple[int, int, int], num_classes: int) -> Noise:
        """As of `Task`; labels repeat 0 to num_classes - 1, (N, height, width) int64."""
        _, height, width = shape
        labels = torch.arange(height * width).expand(samples, -1).reshape(-1, height, width) % num_classes
        return torch.randn(samples, *shape), labels

    def details(self, dataset: Dataset) -> list[str]:
        """A table of the classes."""
        assert self.scores is not None
        return class_lines(dataset.classes, self.scores)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        output = self(images)
        count = _counted(labels)
        seen = count > 0
        counted = count.masked_fill(~seen, 1)
        logits = _at(output["out"], labels)
        loss = self._loss(logits, labels) / counted
        if "aux" in output:  # at weight 0 too: processes wait for the gradient of every parameter
            loss = loss + self.deep_supervision * self._loss(_at(output["aux"], labels), labels) / counted
        right = (logits.detach().argmax(1) == labels).sum() / counted
        self.train_loss.update(loss.detach() * len(labels), len(labels) * seen)
        self.train_accuracy.update(right * len(labels), len(labels) * seen)
        self.log("loss", loss.masked_fill(~seen, math.nan))
        return loss

    def take_training_metrics(self) -> dict[str, float]:
        """As of `Task`.

        Raises:
            InputError: no pixel of these steps counts.
        """
        values = super().take_training_metrics()
        if math.isnan(values["train_accuracy"]):  # which a loss that is NaN does not make so
            raise InputError(
                f"no training step counted a pixel: every label is {IGNORED}, void; expected some of a class"
            )
        return values

    def validation_step(self, batch: Sequence[Scene], batch_idx: int) -> dict[str, dict[int, Tensor]]:
        """Predict scenes and update the metrics; "labels" of what it returns are those of each, (H, W) uint8."""
        labels = {}
        for scene, found in predict(self, batch, self.inference):
            assert scene.target is not None
            self.confusion.update(found.labels, scene.target)
            self.val_loss.update(found.loss)
            self.pictures.update(1)
            labels[scene.index] = found.labels
        return {"labels": labels}

    def on_validation_epoch_end(self) -> None:
        """Log loss and scores."""
        self.count_pictures()
        classes = self.confusion.num_classes
        # torchmetrics squeezes the matrix of a single class to a scalar.
        self.scores = scores = Scores(self.confusion.compute().cpu().view(classes, classes))
        if not scores.matrix.any():
            raise InputError(
                f"no pixel of the test pictures counts: every label is {IGNORED}; expected some of a class"
            )
        self.log("val_loss", self.val_loss.compute() / scores.matrix.sum())
        values = {"accuracy": scores.pixel_accuracy, "mean_iou": scores.mean_iou, "overall": scores.overall}
        for name, value in values.items():
            self.log(f"val_{name}", value, prog_bar=name == "mean_iou")
        for metric in (self.confusion, self.val_loss):
            metric.reset()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over the pixels that count. Summed here, for on CUDA the loss's own sums have no fixed order."""
        smoothing = self.label_smoothing
        return F.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none").sum()


def _counted(labels: Tensor) -> Tensor:
    """How many pixels count, (): the mean over the processes, whose gradients are averaged."""
    count = (labels != IGNORED).sum()
    if not (dist.is_available() and dist.is_initialized()):
        return count
    dist.all_reduce(count)
    return count / dist.get_world_size()


def _at(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (N, K, h, w) at the resolution of labels (N, H, W)."""
    if logits.shape[2:] == labels.shape[1:]:
        return logits
    return F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
