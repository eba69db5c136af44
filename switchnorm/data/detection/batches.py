"""Loaders over pictures with objects."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from switchnorm.data.augment.colors import Colors
from switchnorm.data.detection.evaluation_reader import EvaluationReader, ReadPictures
from switchnorm.data.detection.scene import DetectionScene
from switchnorm.data.detection.training_reader import ReadShare, TrainingReader, TrainingRequest
from switchnorm.data.loaders.alike import AlikeFileBatches
from switchnorm.data.loaders.file_batches import FileBatches
from switchnorm.data.loaders.loader import Batch
from switchnorm.data.loaders.share import Share


class TrainingObjects(AlikeFileBatches[TrainingRequest, ReadShare]):
    """The loader for training: normalized images and what is on them; batches as `AlikeFileBatches`.

    Images are (N, C, H, W) float32, H and W multiples of 32 and the same for all shares of a batch; pictures lie in the
    upper left corner, and beside them is 0, the mean colour. Targets are a list of N dictionaries:

        boxes    (K, 4) float32, x1, y1, x2, y2 in pixels of the images
        labels   (K,) int64, from 1
        masks    (K, H, W) uint8, 1 where the object is; absent where the data has no masks
        ignored  (M, 4) float32, regions that are neither object nor background
        size     (2,) int64 on the CPU, height and width of the picture within the image
        draw     () int64 on the CPU, the key of the numbers that the network draws for it; of (seed, pass, index)

    Args:
        reader: of the training pictures.
        colors: on the share's device.
        batch_size, steps, workers, share: as `AlikeFileBatches`.

    Raises:
        InputError: as `AlikeFileBatches`; in iteration, a picture that cannot be read or is of another size.
    """

    def __init__(
        self,
        reader: TrainingReader,
        colors: Colors,
        *,
        batch_size: int,
        steps: int | None,
        workers: int | None,
        share: Share,
    ) -> None:
        augmentation = reader.augmentation
        super().__init__(
            reader,
            reader.listed.sizes,
            batch_size=batch_size,
            seed=augmentation.seed,
            steps=steps,
            workers=workers,
            share=share,
        )
        self.sizes = augmentation.sizes
        self._has_masks = reader.listed.masks is not None
        self._colors = colors

    def pixels(self, images: Tensor) -> Tensor:
        """As `Loader`."""
        return self._colors.inverse(images)

    def _requests(self, position: int) -> Iterator[TrainingRequest]:
        for pass_index, place, order in self._passes(position):
            start, places = place * self.batch_size, self.places(place)
            index = order[start : start + self.batch_size]
            targets = self.sizes.of_batch(self.seed, pass_index, place, index, self.originals[index].tolist())
            own = slice(places.start - start, places.stop - start)
            yield TrainingRequest(pass_index, place, index[own].tolist(), self.sizes.canvas(targets))

    def _finished(self, read: ReadShare) -> Batch:
        device = self.share.device
        pixels = read.images.to(device, non_blocking=True)
        images = torch.zeros(pixels.shape, device=device)
        for place, filled in enumerate(read.filled):
            for top, left, height, width in filled:
                rows, columns = slice(top, top + height), slice(left, left + width)
                images[place, :, rows, columns] = self._colors(pixels[place, :, rows, columns])
        return images, self._targets(read)

    def _targets(self, read: ReadShare) -> list[dict[str, Tensor]]:
        device = self.share.device
        objects, regions = ([pair[which] for pair in read.counts] for which in (0, 1))
        boxes, labels, ignored = (
            values.to(device, non_blocking=True).split(counts)
            for values, counts in ((read.boxes, objects), (read.labels, objects), (read.ignored, regions))
        )
        targets = [
            {
                "boxes": boxes[place],
                "labels": labels[place],
                "ignored": ignored[place],
                "size": torch.tensor(read.sizes[place]),
                "draw": torch.tensor(read.keys[place]),
            }
            for place in range(len(read.counts))
        ]
        if self._has_masks:
            for target, masks in zip(targets, self._masks(read).split(objects), strict=True):
                target["masks"] = masks
        return targets

    def _masks(self, read: ReadShare) -> Tensor:
        """The masks of all objects, (K, H, W) uint8 on the device."""
        assert read.patches is not None
        pixels = read.masks.to(self.share.device, non_blocking=True)
        masks = torch.zeros(len(read.boxes), *read.images.shape[2:], dtype=torch.uint8, device=self.share.device)
        start = 0
        for mask, (top, left, height, width) in zip(masks, read.patches, strict=True):
            end = start + height * width
            mask[top : top + height, left : left + width] = pixels[start:end].view(height, width)
            start = end
        return masks


class DetectionBatches(FileBatches[list[int], ReadPictures]):
    """The loader for evaluation: a list of `DetectionScene` for each batch; shares as `Loader`.

    Pictures are on the share's device, objects on the CPU.

    Args:
        reader: of the test pictures.
        colors: on the share's device.
        batch_size, workers, share: as `FileBatches`.

    Raises:
        InputError: as `FileBatches`; in iteration, a picture that cannot be read or is of another size.
    """

    def __init__(
        self, reader: EvaluationReader, colors: Colors, *, batch_size: int, workers: int | None, share: Share
    ) -> None:
        super().__init__(reader, len(reader.listed), batch_size=batch_size, workers=workers, share=share)
        self._listed = reader.listed
        self._colors = colors

    def _request(self, samples: list[int]) -> list[int]:
        return samples

    def _finished(self, read: ReadPictures) -> list[DetectionScene]:
        return [
            DetectionScene(
                index,
                self._colors(picture.to(self.share.device, non_blocking=True)),
                (size[0], size[1]),  # pinned memory makes lists of tuples
                self._listed.objects(index),
            )
            for index, picture, size in zip(read.samples, read.pictures, read.sizes, strict=True)
        ]
