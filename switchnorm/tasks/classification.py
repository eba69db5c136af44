"""Image classification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

MakeOptimizer = Callable[[nn.Module], tuple[torch.optim.Optimizer, LRScheduler]]


class Classification(pl.LightningModule):
    """Cross entropy and accuracy over batches (images, labels).

    Logs "loss" in every training step, and "val_loss", "val_accuracy" and, with more than 5 classes,
    "val_accuracy_top5" after validation; accuracies are fractions over all samples of all processes.

    Args:
        model: images (N, C, H, W) -> logits (N, num_classes).
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes, in training.
        make_optimizer: model -> optimizer and its schedule, which advances with each optimizer step; without it the
            task can only evaluate.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        label_smoothing: float = 0.0,
        make_optimizer: MakeOptimizer | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self._make_optimizer = make_optimizer
        self.train_loss, self.train_accuracy, self.val_loss = MeanMetric(), MeanMetric(), MeanMetric()
        ranks = (1, 5) if num_classes > 5 else (1,)
        self.val_accuracy = nn.ModuleDict(
            {
                "val_accuracy" if k == 1 else f"val_accuracy_top{k}": MulticlassAccuracy(
                    num_classes, top_k=k, average="micro", validate_args=False
                )
                for k in ranks
            }
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.train_loss.update(loss.detach(), len(labels))
        self.train_accuracy.update((logits.detach().argmax(1) == labels).float())
        self.log("loss", loss, prog_bar=True)
        return loss

    def take_training_metrics(self) -> dict[str, float]:
        """Mean loss and accuracy of the training steps since the last call; every process must call."""
        metrics = {"train_loss": self.train_loss, "train_accuracy": self.train_accuracy}
        values = {name: float(metric.compute()) for name, metric in metrics.items()}
        for metric in metrics.values():
            metric.reset()
        return values

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count a batch."""
        images, labels = batch
        if not len(labels):  # the last batch may not go round all processes
            return
        logits = self.model(images)
        self.val_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        for accuracy in self._accuracies().values():
            accuracy.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Log what was counted."""
        metrics = {"val_loss": self.val_loss, **self._accuracies()}
        for name, metric in metrics.items():
            self.log(name, metric.compute(), prog_bar=name == "val_accuracy")
        for metric in metrics.values():
            metric.reset()

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule that were handed in."""
        if self._make_optimizer is None:
            raise RuntimeError("this task was made without an optimizer: it can only evaluate")
        optimizer, schedule = self._make_optimizer(self.model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each parameter group that has a "max_norm" to it, then all together as the trainer says."""
        for group in optimizer.param_groups:
            if "max_norm" in group:
                nn.utils.clip_grad_norm_(group["params"], group["max_norm"])
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the means of an unfinished epoch, so that a resumed run reports what the unkilled one would."""
        checkpoint["training_metrics"] = [m.metric_state for m in (self.train_loss, self.train_accuracy)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the means of an unfinished epoch."""
        for metric, state in zip((self.train_loss, self.train_accuracy), checkpoint["training_metrics"], strict=True):
            for name, value in state.items():
                setattr(metric, name, value.to(metric.device))
            metric._update_count = 1

    def _accuracies(self) -> dict[str, Metric]:
        return {name: metric for name, metric in self.val_accuracy.items() if isinstance(metric, Metric)}
