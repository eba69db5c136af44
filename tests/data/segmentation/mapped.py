"""Small pictures that show their labels: a class is a colour, so that a picture tells what its mask must be."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data.augment.normalization import IMAGENET_MEAN, IMAGENET_STD
from switchnorm.data.segmentation import IGNORED, Masks
from switchnorm.errors import InputError

CLASSES = ("red", "green", "blue")
#: Of the classes, and of pixels that do not count. Jittered colours keep their greatest channel.
COLORS = np.array([[220, 60, 60], [60, 220, 60], [60, 60, 220]], np.uint8)
VOID = 255


def labels_of(seed, size=(24, 30)):
    """(H, W) uint8: stripes and blocks of the three classes, 6 pixels and more wide."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 3, (-(-size[0] // 6), -(-size[1] // 6)), dtype=np.uint8)
    return coarse.repeat(6, 0).repeat(6, 1)[: size[0], : size[1]]


def write_pair(root, split, name, seed, size=(24, 30), numbers=(0, 1, 2), mode="L"):
    labels = labels_of(seed, size)
    for folder in (root / split, root / f"{split}annot"):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(COLORS[labels]).save(root / split / f"{name}.png")
    mask = np.array(numbers)[labels]
    if mode == "P":
        image = Image.fromarray(mask.astype(np.uint8))
        image.putpalette(bytes(range(255, -1, -1)) * 3)
    else:
        image = Image.fromarray(mask.astype(np.uint16 if mode == "I;16" else np.uint8))
    assert image.mode == mode
    image.save(root / f"{split}annot" / f"{name}.png")


#: Wide, upright and square pictures.
SIZES = [(24, 30), (30, 24), (24, 36), (24, 24), (42, 24), (20, 33), (24, 30), (30, 20), (26, 31), (24, 30), (33, 21)]


def write_root(root, train=SIZES, val=((24, 30), (30, 25), (20, 20), (24, 37), (26, 26)), **options):
    for split, sizes in (("train", train), ("val", val)):
        for number, size in enumerate(sizes):
            write_pair(root, split, f"{number:02d}", 1000 * (split == "val") + number, size, **options)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def dataset(root, **options):
    return Masks(str(root), **{"workers": 0, **options})


def pixels_of(images):
    """Normalized images (..., 3, H, W) in 0..255 again."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images * std + mean) * 255


def shown_labels(images):
    """(N, H, W) the labels that the colours of normalized images show; 255 where they are the mean colour."""
    shown = pixels_of(images).argmax(1)
    return shown.masked_fill((images == 0).all(1), IGNORED)


def write_odgt(file, entries):
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def assert_same(left, right):
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def endless(batches):
    while True:
        yield from batches


def refused(match, call):
    with pytest.raises(InputError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
    del caught  # which holds the loader, and this its processes
