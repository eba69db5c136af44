"""Loaders over pictures with masks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from switchnorm.data.counter import Stream, permutation
from switchnorm.data.loader import Batch, Loader, TrainingLoader
from switchnorm.data.segmentation.colors import Colors
from switchnorm.data.segmentation.reading import CropRequest, Crops, SceneReader, SceneRequest, TrainingReader
from switchnorm.data.segmentation.scene import Scene
from switchnorm.data.segmentation.sizes import TrainingSizes
from switchnorm.data.workers import read_batches


class TrainingMaps(TrainingLoader):
    """The loader for training: normalized images, float32 (N, 3, H, W), and labels, int64 (N, h, w), 255 not counted.

    A batch holds upright pictures or wide ones. Each pass chooses at random which pictures fill no batch and wait; of
    the rest at most one batch is mixed, of what is left of both kinds. All shares of a batch have the same size.

    Args:
        reader: of the training pictures.
        sizes: to which they are resized.
        colors: on `device`.
        batch_size: samples per batch, all processes together; samples that fill no batch wait for another pass.
        steps: batches of an epoch; None is one pass.
        workers: number of processes that read.
        rank: this process, 0 <= rank < world.
        world: number of processes.
        device: where the batches are wanted.

    Raises:
        InputError: fewer samples than a batch holds, a batch that the processes cannot share evenly, no steps, or a
            file that is no picture; in iteration, a picture or mask that cannot be read or does not fit.
    """

    def __init__(
        self,
        reader: TrainingReader,
        sizes: TrainingSizes,
        colors: Colors,
        *,
        batch_size: int,
        steps: int | None,
        workers: int,
        rank: int,
        world: int,
        device: torch.device | str,
    ) -> None:
        pairs, seed = reader.read_pair.pairs, reader.seed
        super().__init__(len(pairs), batch_size=batch_size, seed=seed, steps=steps, rank=rank, world=world)
        self.reader = reader
        self.sizes = sizes
        self.workers = workers
        self.device = device
        self._originals = pairs.sizes
        self._upright = self._originals[:, 0] > self._originals[:, 1]
        self._colors = colors

    def _batches(self, position: int) -> Iterator[Batch]:
        requests, count = self._requests(position), len(self) - position
        for crops in read_batches(self.reader, requests, count, self.workers, self.device):
            yield self._finished(crops), crops.labels.to(self.device, non_blocking=True).long()

    def _requests(self, position: int) -> Iterator[CropRequest]:
        for turn, place, order in self._turns(position):
            start, share = place * self.batch_size, self._share(place)
            index = order[start : start + self.batch_size]
            targets = self.sizes.of_batch(self.seed, turn, place, index, self._originals[index])
            own = slice(share.start - start, share.stop - start)
            yield CropRequest(turn, index[own].tolist(), targets[own], self.sizes.canvas(targets))

    def _order(self, turn: int, device: torch.device | str) -> Tensor:
        order = super()._order(turn, device)[: self.batches_per_pass * self.batch_size]
        upright = self._upright.to(device)[order]
        batches = torch.cat([order[upright], order[~upright]]).view(self.batches_per_pass, self.batch_size)
        return batches[permutation(self.seed, turn, len(batches), device, stream=Stream.BATCH_ORDER)].flatten()

    def _finished(self, crops: Crops) -> Tensor:
        """The normalized images, 0 beside the pictures."""
        images = self._colors(crops.images.to(self.device, non_blocking=True))
        for image, (height, width) in zip(images, crops.extents, strict=True):
            image[:, height:].zero_()
            image[:, :, width:].zero_()
        return images


class SceneBatches(Loader):
    """The loader for evaluation: a list of `Scene` for each batch, on `device`; shares as `Loader`.

    Args:
        reader: of the test pictures.
        colors: on `device`.
        batch_size: samples per batch, all processes together; the last batch may hold fewer.
        workers: number of processes that read.
        rank: this process, 0 <= rank < world.
        world: number of processes.
        device: where the batches are wanted.

    Raises:
        InputError: fewer samples per batch than processes, or no such rank; in iteration, a picture or mask that
            cannot be read or does not fit.
    """

    def __init__(
        self,
        reader: SceneReader,
        colors: Colors,
        *,
        batch_size: int,
        workers: int,
        rank: int,
        world: int,
        device: torch.device | str,
    ) -> None:
        super().__init__(len(reader.read_pair.pairs), batch_size=batch_size, rank=rank, world=world)
        self.reader = reader
        self.workers = workers
        self.device = device
        self._colors = colors

    def __iter__(self) -> Iterator[list[Scene]]:
        shares = (self._share(position) for position in range(len(self)))
        requests = (SceneRequest(list(range(share.start, share.stop))) for share in shares)
        for scenes in read_batches(self.reader, requests, len(self), self.workers, self.device):
            yield [self._finished(scene) for scene in scenes]

    def _finished(self, scene: Scene) -> Scene:
        assert scene.truth is not None
        pictures = tuple(self._colors(each.to(self.device, non_blocking=True)) for each in scene.pictures)
        size = (scene.size[0], scene.size[1])  # pinned memory makes lists of tuples
        return scene._replace(pictures=pictures, size=size, truth=scene.truth.to(self.device, non_blocking=True))
