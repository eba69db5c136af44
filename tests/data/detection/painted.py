"""Small pictures that show their objects: a class is a colour, so that pixels tell what boxes and masks must be."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from faster_coco_eval.core import mask as coco
from PIL import Image

from switchnorm.data import Share
from switchnorm.data.augment.normalization import IMAGENET_MEAN, IMAGENET_STD
from switchnorm.data.detection.listed import Listed
from switchnorm.data.detection.masks import StoredMasks
from switchnorm.data.detection.ragged import Ragged
from switchnorm.data.detection.shown import PreparedPictures
from switchnorm.data.files.listing import Paths
from switchnorm.errors import InputError

CLASSES = ("red", "green", "blue", "yellow", "magenta", "cyan")
#: Of the classes, of crowds, and of what is nothing.
COLORS = np.array(
    [[230, 20, 20], [20, 230, 20], [20, 20, 230], [230, 230, 20], [230, 20, 230], [20, 230, 230]], np.uint8
)
CROWD, NOTHING = np.array([250, 250, 250], np.uint8), np.array([90, 90, 90], np.uint8)

#: Height and width: wide, upright, square; a row of pixels and a column of them.
SIZES = [(48, 64), (64, 48), (48, 72), (48, 48), (84, 48), (40, 66), (48, 60), (60, 40), (52, 62), (1, 300), (300, 1)]


@dataclass(frozen=True)
class Thing:
    """An object: its box in whole pixels x1, y1, x2, y2, its label, and whether it is a crowd."""

    box: tuple[int, int, int, int]
    label: int
    crowd: bool = False

    def mask(self, size):
        """(H, W) bool: the box, or where it is large enough a corner of it, an L."""
        x1, y1, x2, y2 = self.box
        found = np.zeros(size, bool)
        found[y1:y2, x1:x2] = True
        if min(x2 - x1, y2 - y1) >= 12:
            found[y1 : (y1 + y2) // 2, (x1 + x2) // 2 : x2] = False
        return found


def things_of(seed, size):
    """Up to four objects in cells of their own; every third picture has none, every fourth a crowd."""
    if seed % 3 == 2:
        return []
    generator = np.random.default_rng(seed)
    things = []
    rows, columns = (2 if side >= 24 else 1 for side in size)
    for row in range(rows):
        for column in range(columns):
            height, width = size[0] // rows, size[1] // columns
            tall, wide = (int(generator.integers(max(side // 2, 1), max(side - 3, 2))) for side in (height, width))
            top = row * height + int(generator.integers(0, height - tall + 1))
            left = column * width + int(generator.integers(0, width - wide + 1))
            things.append(Thing((left, top, left + wide, top + tall), int(generator.integers(1, 7))))
    if seed % 4 == 0 and len(things) > 1:
        things[0] = Thing(things[0].box, things[0].label, crowd=True)
    return things


def painted(size, things, *, masks):
    """(H, W, 3) uint8: the pixels of the objects' masks, or of their boxes, in their colours."""
    pixels = np.tile(NOTHING, (*size, 1))
    for thing in things:
        x1, y1, x2, y2 = thing.box
        where = thing.mask(size) if masks else np.s_[y1:y2, x1:x2]
        pixels[where] = CROWD if thing.crowd else COLORS[thing.label - 1]
    return pixels


def stored_masks(sizes, things):
    rows = [
        coco.encode(np.asfortranarray(thing.mask(size).astype(np.uint8)))["counts"]
        for size, on_it in zip(sizes, things, strict=True)
        for thing in on_it
    ]
    text = torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8)
    none = torch.zeros(len(rows) + 1, dtype=torch.int64)
    points = Ragged(torch.empty(0, dtype=torch.int32), torch.zeros(1, dtype=torch.int64))
    return StoredMasks(points, none, Ragged.of(text, map(len, rows)))


def listed(folder, sizes, things, *, masks=False, may_miss=False):
    """The pictures of a folder, painted where they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{place:02d}.png" for place in range(len(sizes))]
    for name, size, on_it in zip(names, sizes, things, strict=True):
        if not (folder / name).exists():
            Image.fromarray(painted(size, on_it, masks=masks)).save(folder / name)
    flat = [thing for on_it in things for thing in on_it]
    boxes = torch.tensor([thing.box for thing in flat], dtype=torch.float32).view(-1, 4)
    return Listed(
        folder,
        Paths(folder, names),
        torch.arange(1, len(sizes) + 1),
        torch.tensor(sizes),
        torch.tensor([0, *map(len, things)]).cumsum(0),
        boxes,
        torch.tensor([thing.label for thing in flat], dtype=torch.int64),
        ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).double(),
        torch.tensor([thing.crowd for thing in flat], dtype=torch.bool),
        masks=stored_masks(sizes, things) if masks else None,
        may_miss=may_miss,
    )


@dataclass(frozen=True)
class Painted(PreparedPictures):
    """Painted pictures in the folders train and val of `root`, with masks where its name says so."""

    @property
    def classes(self):
        return CLASSES

    def prepare(self):
        pass

    @functools.cached_property
    def _train(self):
        return self._listed("train", SIZES, 0)

    @functools.cached_property
    def _test(self):
        return self._listed("val", SIZES[:5], 40)

    @property
    def _pictures(self):
        return self._train.paths

    def _listed(self, split, sizes, first):
        if not Path(self.root).exists():
            raise InputError(f"no {self.root}")
        things = [things_of(first + place, size) for place, size in enumerate(sizes)]
        masks = "masks" in Path(self.root).name
        return listed(Path(self.root) / split, sizes, things, masks=masks, may_miss=self.on_damaged == "skip")


def dataset(root, **options):
    return Painted(str(root), **{"workers": 0, "test_side": 48, "longest": 320, **options})


def training(root, *, batch_size=2, seed=7, steps=None, rank=0, world=1, **options):
    share = Share(rank, world)
    return dataset(root, **options).train_batches(batch_size=batch_size, seed=seed, steps=steps, share=share)


def pixels_of(images):
    """Normalized images (..., 3, H, W) in 0..255 again."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images * std + mean) * 255


def shown_as(pixels, label):
    """(H, W) bool: where pixels (3, H, W) have the colour of a label, 0 for crowds; by how high each channel is."""
    color = torch.tensor(CROWD if label == 0 else COLORS[label - 1]).view(3, 1, 1)
    return (pixels - color).abs().amax(0) < 60


def assert_same_batches(left, right):
    """The same batches to the last bit."""
    assert len(left) == len(right) > 0
    for (images, targets), (other, others) in zip(left, right, strict=True):
        assert torch.equal(images, other)
        assert len(targets) == len(others) == len(images)
        for one, another in zip(targets, others, strict=True):
            assert one.keys() == another.keys()
            assert all(one[name].dtype == another[name].dtype for name in one)
            assert all(torch.equal(one[name], another[name]) for name in one)
