"""Small photographs that no two tests need to share, and folders of them."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data import Folder, Share

CLASSES = ("cat", "dog", "fox")
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def photo(seed, width=30, height=24):
    """Smooth random colours, so that JPEG and resizing leave them recognizable."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_photo(path, seed, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(seed, **options).save(path, quality=95)


def write_tree(root, train=4, val=3, classes=CLASSES):
    """train/CLASS/i.jpg and val/CLASS/i.jpg, each photograph of its own size."""
    for split, count in (("train", train), ("val", val)):
        for label, name in enumerate(classes):
            for number in range(count):
                seed = 1000 * (split == "val") + 100 * label + number
                write_photo(root / split / name / f"{number}.jpg", seed, width=24 + seed % 17, height=22 + seed % 11)
    return root


def write_lists(root, folder=None):
    """train.txt and val.txt for what `write_tree` made."""
    for split in ("train", "val"):
        lines = [
            f"{path.relative_to(root / split).as_posix()} {CLASSES.index(path.parent.name)}"
            for path in sorted((root / split).rglob("*.jpg"))
        ]
        (folder or root).mkdir(exist_ok=True)
        ((folder or root) / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def folder(tree, **options):
    """The dataset of what `write_tree` made."""
    return Folder(str(tree), **{"size": 16, "resize": 20, "workers": 0, **options})


def training(tree, *, batch_size=4, seed=7, epochs=9, rank=0, world=1, **options):
    """Its loader for training."""
    data = folder(tree, **options)
    return data.train_batches(batch_size=batch_size, seed=seed, epochs=epochs, share=Share(rank, world))


def normalized(pixels):
    return (pixels.float() / 255 - MEAN) / STD


def truncate(path):
    """Leave half of a picture's file."""
    os.truncate(path, path.stat().st_size // 2)


def jpeg_bytes(seed=0, **options):
    buffer = io.BytesIO()
    photo(seed, **options).save(buffer, "JPEG")
    return buffer.getvalue()


def real_data(name):
    """A folder of real data; skips where it is not here."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SWITCHNORM_DATA", beside)) / name
    if not folder.is_dir():
        pytest.skip(f"no real pictures in {folder}; SWITCHNORM_DATA names the folder above")
    return folder


def imagenet_sample():
    """The folder of one real picture per ImageNet class; skips where it is not here."""
    return real_data("imagenet_sample")
