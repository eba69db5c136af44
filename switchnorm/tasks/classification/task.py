"""Image classification."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from switchnorm.tasks.classification.mix import Mix, mixing
from switchnorm.tasks.task import MakeOptimizer, Task

if TYPE_CHECKING:
    from switchnorm.config.schema import Config


class Classification(Task):
    """Cross entropy and accuracy over batches (images, labels).

    Logs "loss" in every training step, and "val_loss", "val_accuracy" and, with more than 5 classes,
    "val_accuracy_top5" after validation; accuracies are fractions over all samples of all processes. Validation takes
    several views of each picture too, (N, V, C, H, W), and averages the probabilities that the network gives them.

    Args:
        model: images (N, C, H, W) -> logits (N, num_classes).
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes, in training.
        make_optimizer: as `Task`.
        mix: blends the pictures of a training batch; a prediction then counts as right if it is the label with the
            largest share.
        channels_last: as `Task`.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        label_smoothing: float = 0.0,
        make_optimizer: MakeOptimizer | None = None,
        mix: Mix | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(model, make_optimizer, channels_last)
        self.label_smoothing = label_smoothing
        self._mix = mix
        self.val_loss = MeanMetric(nan_strategy=math.nan)  # which would leave out NaN
        ranks = (1, 5) if num_classes > 5 else (1,)
        self.val_accuracy = nn.ModuleDict(
            {
                "val_accuracy" if k == 1 else f"val_accuracy_top{k}": MulticlassAccuracy(
                    num_classes, top_k=k, average="micro", validate_args=False
                )
                for k in ranks
            }
        )

    @classmethod
    def build(
        cls, config: Config, model: nn.Module, num_classes: int, make_optimizer: MakeOptimizer | None = None
    ) -> Classification:
        """As `Task.build`."""
        train = config.train
        return cls(
            model,
            num_classes,
            label_smoothing=train.label_smoothing,
            make_optimizer=make_optimizer,
            mix=mixing(train.mixup, train.cutmix, num_classes),
            channels_last=train.channels_last,
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        targets = labels
        if self._mix is not None:
            images, targets = self._mix(images, labels)
            labels = targets.argmax(1)
        logits = self(images)
        if targets is not labels:
            targets = targets.to(logits.dtype)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.train_loss.update(loss.detach() * len(labels), len(labels))
        self.train_accuracy.update((logits.detach().argmax(1) == labels).sum(), len(labels))
        self.log("loss", loss)  # not for Lightning's bar, which would wait for its value in every step
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        """Update loss and accuracies with a batch; returns the logits, (N, K), None for no pictures."""
        images, labels = batch
        if not len(labels):  # the last batch may hold fewer samples than there are processes
            return None
        logits = self._average(images) if images.dim() == 5 else self(images)
        self.pictures.update(len(labels))
        self.val_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        for accuracy in self._accuracies().values():
            accuracy.update(logits, labels)
        return logits

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracies."""
        self.count_pictures()
        metrics = {"val_loss": self.val_loss, **self._accuracies()}
        for name, metric in metrics.items():
            self.log(name, metric.compute(), prog_bar=name == "val_accuracy")
        for metric in metrics.values():
            metric.reset()

    def _average(self, images: Tensor) -> Tensor:
        """The logarithm of the mean probability over views, (N, V, C, H, W) -> (N, K); one view after the other."""
        total = torch.zeros((), device=images.device)
        for view in images.unbind(1):
            logits = self(view)
            total = total + logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
        mean = total / images.shape[1]
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()

    def _accuracies(self) -> dict[str, Metric]:
        return {name: metric for name, metric in self.val_accuracy.items() if isinstance(metric, Metric)}
