"""Loaders over pictures with masks."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from switchnorm.data.augment.colors import Colors
from switchnorm.data.loaders.alike import AlikeFileBatches
from switchnorm.data.loaders.file_batches import FileBatches
from switchnorm.data.loaders.loader import Batch
from switchnorm.data.loaders.share import Share
from switchnorm.data.segmentation.scene import Scene
from switchnorm.data.segmentation.scene_readers import (
    CropReader,
    CropRequest,
    Crops,
    SceneReader,
    SceneRequest,
    Scenes,
)


class TrainingMaps(AlikeFileBatches[CropRequest, Crops]):
    """The loader for training: normalized images, float32 (N, 3, H, W), and labels, int64 (N, h, w), 255 not counted.

    Batches as `AlikeFileBatches`; all shares of a batch have the same size.

    Args:
        reader: of the training pictures.
        colors: on the share's device.
        batch_size, steps, workers, share: as `AlikeFileBatches`.

    Raises:
        InputError: as `AlikeFileBatches`, or a file that is no picture; in iteration, a picture or mask that cannot
            be read or does not fit.
    """

    def __init__(
        self,
        reader: CropReader,
        colors: Colors,
        *,
        batch_size: int,
        steps: int | None,
        workers: int | None,
        share: Share,
    ) -> None:
        pairs, seed = reader.read_pair.pairs, reader.seed
        super().__init__(
            reader, pairs.sizes, batch_size=batch_size, seed=seed, steps=steps, workers=workers, share=share
        )
        self.sizes = reader.sizes
        self._colors = colors

    def pixels(self, images: Tensor) -> Tensor:
        """As `Loader`."""
        return self._colors.inverse(images)

    def _requests(self, position: int) -> Iterator[CropRequest]:
        for pass_index, place, order in self._passes(position):
            start, places = place * self.batch_size, self.places(place)
            index = order[start : start + self.batch_size]
            sizes = self.sizes.of_batch(self.seed, pass_index, place, index, self.originals[index])
            own = slice(places.start - start, places.stop - start)
            yield CropRequest(pass_index, place, index[own].tolist(), sizes[own], self.sizes.canvas(sizes))

    def _finished(self, read: Crops) -> Batch:
        images = self._colors(read.images.to(self.share.device, non_blocking=True))
        for image, (height, width) in zip(images, read.extents, strict=True):  # 0, the mean colour, beside the pictures
            image[:, height:].zero_()
            image[:, :, width:].zero_()
        return images, read.labels.to(self.share.device, non_blocking=True).long()


class SceneBatches(FileBatches[SceneRequest, Scenes]):
    """The loader for evaluation: a list of `Scene` for each batch, on the share's device; shares as `Loader`.

    Args:
        reader: of the test pictures.
        colors: on the share's device.
        batch_size, workers, share: as `FileBatches`.

    Raises:
        InputError: as `FileBatches`; in iteration, a picture or mask that cannot be read or does not fit.
    """

    def __init__(
        self, reader: SceneReader, colors: Colors, *, batch_size: int, workers: int | None, share: Share
    ) -> None:
        total = len(reader.read_pair.pairs)
        super().__init__(reader, total, batch_size=batch_size, workers=workers, share=share)
        self._colors = colors

    def _request(self, samples: list[int]) -> SceneRequest:
        return SceneRequest(samples)

    def _finished(self, read: Scenes) -> list[Scene]:
        return [self._on_device(scene) for scene in read.scenes]

    def _on_device(self, scene: Scene) -> Scene:
        assert scene.target is not None
        device = self.share.device
        pictures = tuple(self._colors(each.to(device, non_blocking=True)) for each in scene.pictures)
        size = (scene.size[0], scene.size[1])  # pinned memory makes lists of tuples
        return scene._replace(pictures=pictures, size=size, target=scene.target.to(device, non_blocking=True))
