"""Object detection and instance segmentation."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from switchnorm.data.detection import DetectionDataset, DetectionScene
from switchnorm.errors import InputError
from switchnorm.tasks.detection.average_precision import NOTHING_COUNTS
from switchnorm.tasks.detection.collected import Collected
from switchnorm.tasks.detection.process_mean import process_mean
from switchnorm.tasks.detection.words import class_lines
from switchnorm.tasks.task import MakeOptimizer, Noise, Task
from switchnorm.text import terminal_width

if TYPE_CHECKING:
    from switchnorm.config.schema import Config
    from switchnorm.data import Dataset
    from switchnorm.tasks.detection.average_precision import Scores

Targets: TypeAlias = list[dict[str, Tensor]]

#: Side of the pictures of noise that a rehearsal shows the whole network: a detector at full size takes minutes.
_NOISE = 64
#: Of a target, what is read as numbers.
_ON_CPU = ("size", "draw")
#: Parts of a detector whose work is convolutions alone, in this library's networks and in torchvision's.
_BODIES = ("body", "neck", "backbone")


class Detection(Task):
    """The losses of a detector, and average precision as COCO's evaluation defines it.

    A training batch is (images (N, 3, H, W), targets), a dict for each picture: "boxes" (K, 4) in its pixels, "labels"
    (K,) from 1, "masks" (K, H, W) where the data has some, "ignored" (M, 4), "size" (2,), and "draw" (), from which the
    network draws anchors and regions. The loss is the sum of the network's, each divided by counts over all processes.
    A batch of validation is a list of scenes, each of them a forward pass of its own, so that what is found on a
    picture depends on no other. Validation has no loss: that would take a second pass, in another mode.

    Logs "loss" and its parts in every training step, and after validation the columns of
    `switchnorm.tasks.detection.columns` that the data has objects for.

    Args:
        model: in training (images, targets) -> losses by name; in evaluation pictures -> detections, a dict for each.
        num_classes: C, without the background.
        shown: the score from which detections are drawn.
        make_optimizer, channels_last: as `Task`.

    Attributes:
        scores: of the last validation.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        shown: float = 0.5,
        make_optimizer: MakeOptimizer | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(model, make_optimizer, channels_last)
        self.shown = shown
        self.scores: Scores | None = None
        self.collected = Collected(num_classes)
        detector: Any = model
        detector.mean_over_processes = process_mean
        detector.transform.paste = False  # `in_original` makes masks of a picture's size, one at a time
        detector.transform.edges = True  # as datasets have boxes, also where the network's have inclusive ends

    @classmethod
    def build(
        cls, config: Config, model: nn.Module, num_classes: int, make_optimizer: MakeOptimizer | None = None
    ) -> Detection:
        """As `Task.build`."""
        detector: Any = model
        detector.score_threshold = config.own.score_threshold
        detector.nms_threshold = config.own.nms_threshold
        detector.detections_per_image = config.own.detections
        return cls(model, num_classes, config.own.shown, make_optimizer, config.train.channels_last)

    @classmethod
    def check_data(cls, dataset: Dataset) -> None:
        """As of `Task`: without an object there is no precision."""
        assert isinstance(dataset, DetectionDataset)
        if all(dataset.test_target(index).crowd.all() for index in range(dataset.test_size)):
            raise InputError(NOTHING_COUNTS)

    @classmethod
    def rehearse(cls, copied: Any, shape: tuple[int, int, int, int]) -> int:
        """As of `Task`: convolutions at full size, and all of the network on small pictures of noise.

        What is proposed decides on the shapes of all that follows, so the heads are no matter for the meta device.
        """
        on_meta = copied("meta")
        dtype = next(on_meta.parameters()).dtype
        on_meta.features(torch.empty(shape, device="meta", dtype=dtype))
        model = copied("cpu")
        ghosts = [getattr(layer, "ghost", None) for layer in model.modules()]
        samples = min(shape[0], max([2, *(size for size in ghosts if isinstance(size, int))]))
        classes = int(model.transform.num_classes)
        images, targets = cls.noise(samples, shape[1:], classes)
        targets = [{name: _as(value, dtype) for name, value in target.items()} for target in targets]
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model(images.to(dtype), targets)
        return classes

    @staticmethod
    def noise(samples: int, shape: tuple[int, int, int], num_classes: int) -> Noise:
        """As of `Task`: small pictures, each with two objects, masks and all; a network takes what it needs."""
        channels, height, width = shape[0], *(min(_NOISE, side) for side in shape[1:])
        images = torch.randn(samples, channels, height, width)
        boxes = torch.tensor([[0.1, 0.2, 0.7, 0.6], [0.4, 0.3, 0.9, 0.9]]) * torch.tensor([width, height]).repeat(2)
        masks = torch.zeros(2, height, width, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        return images, [
            {
                "boxes": boxes.clone(),
                "labels": (torch.arange(2) + 2 * place) % num_classes + 1,
                "masks": masks.clone(),
                "ignored": torch.zeros(0, 4),
                "size": torch.tensor([height, width]),
                "draw": torch.tensor(place),
            }
            for place in range(samples)
        ]

    @staticmethod
    def compile(model: nn.Module) -> None:
        """As of `Task`: convolutions alone, for shapes of heads are known only when they are called."""
        for part in _bodies(model):
            part.compile()

    @staticmethod
    def channels_last(model: nn.Module) -> nn.Module:
        """As of `Task`: convolutions alone, for regions are pooled in the other layout."""
        for part in _bodies(model):
            part.to(memory_format=torch.channels_last)
        return model

    def details(self, dataset: Dataset) -> list[str]:
        """A table of the classes, as the terminal has room for."""
        assert self.scores is not None
        return class_lines(dataset.classes, self.scores, terminal_width(sys.stdout))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """What computes on the device; sizes and keys of random numbers are read on the CPU, as are objects of scenes.

        A loader's batches are where they belong already.
        """
        if not isinstance(batch, tuple):
            return [scene._replace(picture=scene.picture.to(device)) for scene in batch]
        images, targets = batch
        moved = [
            {name: value if name in _ON_CPU else value.to(device) for name, value in target.items()}
            for target in targets
        ]
        return images.to(device), moved

    def forward_pass(self, batch: tuple[Tensor, Targets]) -> Any:
        """As of `Task`: losses of a training batch or, in evaluation mode, what is found on its pictures.

        So running statistics of heads are averaged over proposals as evaluation has them, see `calibrate`.
        """
        images, targets = batch
        return self.model(self.layout(images), targets)

    def training_step(self, batch: tuple[Tensor, Targets], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        images, targets = batch
        losses: dict[str, Tensor] = self.model(self.layout(images), targets)
        loss = torch.stack([each.float() if each.dtype.itemsize < 4 else each for each in losses.values()]).sum()
        self.train_loss.update(loss.detach() * len(targets), len(targets))
        self.log("loss", loss)
        self.log_dict(losses)
        return loss

    def take_training_metrics(self) -> dict[str, float]:
        """As of `Task`; there is no accuracy."""
        self.trained = {"train_loss": float(self.train_loss.compute())}
        self.train_loss.reset()
        return self.trained

    def validation_step(self, batch: Sequence[DetectionScene], batch_idx: int) -> None:
        """Detect on scenes and keep what is found."""
        for scene in batch:
            self.collected.update(scene, self.detect(scene))
            self.pictures.update(1)

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        self.count_pictures()
        self.scores = self.collected.compute()
        self.collected.reset()
        for name, value in self.scores.values.items():
            # As a number, Lightning would round it to float32.
            self.log(name, torch.tensor(value, dtype=torch.float64), prog_bar=name == "val_ap")

    def detect(self, scene: DetectionScene) -> dict[str, Tensor]:
        """What the network finds on a scene, in pixels of its picture, masks as it predicts them within boxes."""
        (detections,) = self.model([self.layout(scene.picture[None])[0]])
        found: dict[str, Tensor] = detections
        return found


def _bodies(model: nn.Module) -> Iterator[nn.Module]:
    return (part for name, part in model.named_children() if name in _BODIES)


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
