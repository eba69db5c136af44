"""The pictures of a split, and the objects on them."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from switchnorm.data.detection.masks import StoredMasks
from switchnorm.data.detection.objects import Objects
from switchnorm.data.detection.ragged import Ragged
from switchnorm.data.files.listing import Paths
from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.files.walk import LeftOut

if TYPE_CHECKING:
    from switchnorm.data.picture import Picture


@dataclass(frozen=True)
class Listed:
    """The pictures of a split with their objects, as tensors: worker processes share them, however many there are.

    Args:
        source: the file or folder that names them; what errors name.
        paths: of the pictures.
        ids: (N,) int64, the number of each picture in its file, or from 1.
        sizes: (N, 2) int64, height and width of each picture, in which its boxes are.
        ends: (N + 1,) int64: picture i has the objects from ends[i] to ends[i + 1].
        boxes: (K, 4) float32, x1, y1, x2, y2, see `Objects`.
        labels: (K,) int64, from 1.
        area: (K,) float64.
        crowd: (K,) bool.
        masks: of the objects; None where the data has none.
        left_out: what lies there or is written there and was not taken.
        changed: what was taken otherwise than it is written: boxes that reach outside.
        may_miss: whether pictures may be missing or damaged.
    """

    source: Path
    paths: Paths
    ids: Tensor
    sizes: Tensor
    ends: Tensor
    boxes: Tensor
    labels: Tensor
    area: Tensor
    crowd: Tensor
    masks: StoredMasks | None = None
    left_out: tuple[LeftOut, ...] = ()
    changed: tuple[LeftOut, ...] = ()
    may_miss: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def counts(self) -> Tensor:
        """(N,) int64: how many objects each picture has, crowds not counted."""
        single = torch.cat([torch.zeros(1, dtype=torch.int64), (~self.crowd).cumsum(0)])
        return single[self.ends].diff()

    @property
    def distinct_sizes(self) -> list[tuple[int, int]]:
        """The different ones of `sizes`, each a height and a width."""
        return [(height, width) for height, width in self.sizes.unique(dim=0).tolist()]

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a picture."""
        height, width = self.sizes[index].tolist()
        return height, width

    def objects(self, index: int) -> Objects:
        """The objects on a picture, in its own pixels and in the order of the file."""
        start, end = self.ends[index : index + 2].tolist()
        masks = None
        if self.masks is not None:
            masks = tuple(self.masks.rle(place, self.size(index)) for place in range(start, end))
        return Objects(
            self.boxes[start:end].clone(),
            self.labels[start:end].clone(),
            self.area[start:end].clone(),
            self.crowd[start:end].clone(),
            masks,
        )

    def picture(self, index: int, pixels: Pixels) -> Picture:
        """A picture in the size in which its boxes are, see `read_picture`.

        Raises:
            DamagedError: no such file, not a whole picture, or one of another size.
            InputError: as `read_picture`.
        """
        from switchnorm.data.detection.fitting import read_fitting

        return read_fitting(self.paths[index], pixels, self.size(index), self.source)

    def digest(self) -> str:
        """What tells these objects, in their order, from others: 32 letters."""
        found = hashlib.sha256()
        drawn = () if self.masks is None else (self.masks.points.values, self.masks.runs.values)
        for values in (self.ends, self.boxes, self.labels, self.crowd, *drawn):
            found.update(values.numpy().data)
        return found.hexdigest()[:32]

    def name(self, index: int) -> str:
        """The path of a picture below the folder of all, or as its list has it."""
        return self.paths.name(index)

    def taken(self, places: Tensor) -> Listed:
        """These pictures, (M,) int64, in this order."""
        objects = Ragged(torch.arange(len(self.labels)), self.ends).taken(places)
        return dataclasses.replace(
            self,
            paths=self.paths.chosen(places.tolist()),
            ids=self.ids[places],
            sizes=self.sizes[places],
            ends=objects.ends,
            boxes=self.boxes[objects.values],
            labels=self.labels[objects.values],
            area=self.area[objects.values],
            crowd=self.crowd[objects.values],
            masks=None if self.masks is None else self.masks.taken(objects.values),
        )
