"""What every task has: a network, an optimizer that is passed in, and training metrics that checkpoints keep."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import SumMetric

from switchnorm.errors import InputError
from switchnorm.optim.clipping import clip_gradients
from switchnorm.surgery.over_processes import gathered
from switchnorm.surgery.statistics import running_statistics
from switchnorm.tasks.mean import SampleMean, own_sum
from switchnorm.tasks.process_statistics import keep_mean, take_own
from switchnorm.weights.checkpoint import TRAINED

if TYPE_CHECKING:
    from switchnorm.config.schema import Config
    from switchnorm.data import Dataset

#: Pictures (N, C, H, W), and what is known of each.
Noise: TypeAlias = tuple[Tensor, Any]

MakeOptimizer = Callable[[nn.Module], tuple[torch.optim.Optimizer, LRScheduler]]


class Task(pl.LightningModule):
    """A network under training or evaluation; subclasses say what a batch means.

    Args:
        model: the network.
        make_optimizer: model -> optimizer and its schedule, which advances with each optimizer step; without it the
            task can only evaluate.
        channels_last: whether pictures are laid out with the channels last.

    Attributes:
        counted: the number of pictures of the last validation, over all processes.
        trained: mean loss and accuracy of the training steps, as `take_training_metrics` last returned them.
        left_out: whether the last step of the optimizer was left out, since it was not finite.
        kept: entries that every checkpoint gets, such as the names of the classes.
    """

    def __init__(
        self, model: nn.Module, make_optimizer: MakeOptimizer | None = None, channels_last: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self._make_optimizer = make_optimizer
        self._channels_last = channels_last
        self._restored: dict[str, Tensor] = {}
        self.counted = 0
        self.trained: dict[str, float] = {}
        self.left_out = False
        self.kept: dict[str, Any] = {}
        self.pictures = SumMetric()
        self.train_loss, self.train_accuracy = SampleMean(), SampleMean()

    @classmethod
    @abstractmethod
    def build(
        cls, config: Config, model: nn.Module, num_classes: int, make_optimizer: MakeOptimizer | None = None
    ) -> Task:
        """The task of a run.

        Args:
            config: of the run.
            model: the network.
            num_classes: K.
            make_optimizer: as the constructor's.
        """

    @classmethod
    def check_data(cls, dataset: Dataset) -> None:
        """Raise `InputError` for test data of which validation could measure nothing; nothing is computed.

        Args:
            dataset: prepared.
        """

    @staticmethod
    def logits(output: Any) -> Any:
        """Of what the network returns in training, the logits (N, K, ...)."""
        return output

    @classmethod
    def rehearse(cls, copied: Callable[[str], nn.Module], shape: tuple[int, int, int, int]) -> int:
        """Run a network as far as that shows what its training would stop at, without data and without computing much.

        Args:
            copied: makes a copy of the network on a device, in the modes of training; on "meta" only shapes are
                computed.
            shape: of a batch of the largest pictures, (N, C, H, W).

        Returns:
            For how many classes the network is.

        Raises:
            InputError: it returns more than logits.
            RuntimeError, ValueError, AssertionError: it refuses pictures of that shape.
        """
        model = copied("meta")
        output = model(torch.empty(shape, device="meta", dtype=next(model.parameters()).dtype))
        logits = cls.logits(output)
        if not isinstance(logits, Tensor):
            raise InputError(f"{type(model).__name__} returns more than logits in training; choose another model")
        return int(logits.shape[1])

    @staticmethod
    def noise(samples: int, shape: tuple[int, int, int], num_classes: int) -> Noise:
        """A training batch of noise, where a rehearsal has no data.

        Args:
            samples: N.
            shape: of the largest pictures, (C, H, W); a task whose networks take minutes for these gives smaller ones.
            num_classes: K.
        """
        return torch.randn(samples, *shape), torch.arange(samples) % num_classes

    @staticmethod
    def compile(model: nn.Module) -> None:
        """Let torch.compile have what it can of a network, in place."""
        model.compile()

    @staticmethod
    def channels_last(model: nn.Module) -> nn.Module:
        """A network whose convolutions take pictures with the channels last."""
        return model.to(memory_format=torch.channels_last)

    def details(self, dataset: Dataset) -> list[str]:
        """Lines that `switchnorm eval` prints below the metrics of the last validation."""
        return []

    def layout(self, images: Tensor) -> Tensor:
        """Pictures (N, C, H, W) in the memory format that the network gets them in."""
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

    def forward(self, images: Tensor) -> Any:
        """The network's output for pictures (N, C, H, W)."""
        return self.model(self.layout(images))

    def forward_pass(self, batch: Any) -> Any:
        """What the network makes of a training batch, in whatever mode it is: for its running statistics, or to see."""
        return self(batch[0])

    @property
    def training_means(self) -> tuple[SampleMean, SampleMean]:
        """Loss and accuracy of the training steps of the epoch."""
        return self.train_loss, self.train_accuracy

    def take_training_metrics(self) -> dict[str, float]:
        """Mean loss and accuracy of the training steps since the last call; every process must call."""
        self.trained = {
            name: float(mean.compute())
            for name, mean in zip(("train_loss", "train_accuracy"), self.training_means, strict=True)
        }
        for mean in self.training_means:
            mean.reset()
        return self.trained

    def count_pictures(self) -> None:
        """Keep how many pictures validation has seen, and reset the counter; every process must call.

        Raises:
            InputError: it has seen none.
        """
        self.counted = int(self.pictures.compute())
        self.pictures.reset()
        if not self.counted:
            raise InputError("none of the test pictures could be read; expected one at least")

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule of `make_optimizer`."""
        if self._make_optimizer is None:
            raise RuntimeError("this task was made without an optimizer: it can only evaluate")
        optimizer, schedule = self._make_optimizer(self.model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Add a batch's gradients to those of its step, so that they become the mean over the batches of the step.

        Lightning has divided the loss by the batches of a whole step, and the epoch's last one may have fewer.
        """
        together, batches = self.trainer.accumulate_grad_batches, self.trainer.num_training_batches
        left = batches % together
        if left and self.trainer.fit_loop.epoch_loop.batch_idx >= batches - left:
            loss = loss * (together / left)
        super().backward(loss, *args, **kwargs)

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
            clip_gradients(parameters, max_norm)
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the means of an unfinished epoch, so that a resumed run reports what the unkilled one would.

        Lightning asks callbacks before, so that whatever a `WeightAverage` adds is there; every process comes here.
        """
        checkpoint.update(self.kept)
        checkpoint["training_metrics"] = [gathered(mean.sums) for mean in self.training_means]
        checkpoint["counted"] = self.counted
        keep_mean(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the means of an unfinished epoch, and choose this process's statistics before anybody reads them."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        for mean, every in zip(self.training_means, checkpoint["training_metrics"], strict=True):
            mean.restore({name: own_sum(sums, rank, world) for name, sums in every.items()})
        self.counted = checkpoint.get("counted", 0)  # where nothing is left to train, no validation counts again
        take_own(checkpoint, rank, world)
        trained = checkpoint.get(TRAINED, checkpoint["state_dict"])
        self._restored = {key: trained[key] for key in running_statistics(self)}

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Restore this process's statistics again: to distribute the network has replaced them by the first one's."""
        buffers = running_statistics(self)
        for key, value in self._restored.items():
            buffers[key].copy_(value)
        self._restored = {}
