"""Image classification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, Metric, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from switchnorm.tasks.mean import SampleMean
from switchnorm.tasks.mix import Mix

MakeOptimizer = Callable[[nn.Module], tuple[torch.optim.Optimizer, LRScheduler]]


class Classification(pl.LightningModule):
    """Cross entropy and accuracy over batches (images, labels).

    Logs "loss" in every training step, and "val_loss", "val_accuracy" and, with more than 5 classes,
    "val_accuracy_top5" after validation; accuracies are fractions over all samples of all processes. Validation takes
    several views of each picture too, (N, V, C, H, W), and averages the probabilities that the network gives them.

    Args:
        model: images (N, C, H, W) -> logits (N, num_classes).
        num_classes: K.
        label_smoothing: share of the target that is spread over all classes, in training.
        make_optimizer: model -> optimizer and its schedule, which advances with each optimizer step; without it the
            task can only evaluate.
        mix: blends the pictures of a training batch; a prediction then counts as right if it is the label with the
            largest share.
        channels_last: whether pictures are laid out with the channels last.

    Attributes:
        counted: the number of pictures of the last validation, over all processes.
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
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self._make_optimizer = make_optimizer
        self._mix = mix
        self._channels_last = channels_last
        self.counted = 0
        self._pictures = SumMetric()
        self.train_loss, self.train_accuracy, self.val_loss = SampleMean(), SampleMean(), MeanMetric()
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
        targets = labels
        if self._mix is not None:
            images, targets = self._mix(images, labels)
            labels = targets.argmax(1)
        logits = self._answer(images)
        if targets is not labels:
            targets = targets.to(logits.dtype)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.train_loss.update(loss.detach() * len(labels), len(labels))
        self.train_accuracy.update((logits.detach().argmax(1) == labels).sum(), len(labels))
        self.log("loss", loss)  # not for Lightning's bar, which would wait for its value in every step
        return loss

    def layout(self, images: Tensor) -> Tensor:
        """Pictures (N, C, H, W) in the memory format that the network gets them in."""
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

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
        logits = self._average(images) if images.dim() == 5 else self._answer(images)
        self._pictures.update(len(labels))
        self.val_loss.update(F.cross_entropy(logits, labels, reduction="none"))
        for accuracy in self._accuracies().values():
            accuracy.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Log what was counted."""
        metrics = {"val_loss": self.val_loss, **self._accuracies()}
        for name, metric in metrics.items():
            self.log(name, metric.compute(), prog_bar=name == "val_accuracy")
        self.counted = int(self._pictures.compute())
        for metric in (*metrics.values(), self._pictures):
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
        """Clip the parameters of all groups with the same "max_norm" to it, then all together as the trainer says."""
        limited: dict[float, list[nn.Parameter]] = {}
        for group in optimizer.param_groups:
            if "max_norm" in group:
                limited.setdefault(group["max_norm"], []).extend(group["params"])
        for max_norm, parameters in limited.items():
            nn.utils.clip_grad_norm_(parameters, max_norm)
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

    def _answer(self, images: Tensor) -> Tensor:
        """The logits of one view of each picture, (N, C, H, W) -> (N, K)."""
        logits: Tensor = self.model(self.layout(images))
        return logits

    def _average(self, images: Tensor) -> Tensor:
        """The logarithm of the mean probability over views, (N, V, C, H, W) -> (N, K); one view after the other."""
        total = torch.zeros((), device=images.device)
        for view in images.unbind(1):
            logits = self._answer(view)
            total = total + logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
        mean = total / images.shape[1]
        return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()

    def _accuracies(self) -> dict[str, Metric]:
        return {name: metric for name, metric in self.val_accuracy.items() if isinstance(metric, Metric)}
