"""Pictures that every example learns from in seconds: to classify, or with squares to detect."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import TensorDataset


def pictures(number: int = 48, side: int = 64, seed: int = 0) -> TensorDataset:
    """Noise (3, side, side) of three classes, with the channel of the class a little brighter, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    x = torch.randn(number, 3, side, side, generator=generator)
    brighter: Tensor = torch.nn.functional.one_hot(labels, 3)[:, :, None, None]
    return TensorDataset(x + brighter, labels)


def squares(folder: Path, number: int, side: int = 64) -> Path:
    """A dataset of white squares in Ultralytics' layout; returns its YAML file."""
    for index in range(number):
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        picture, edge = Image.new("RGB", (side, side)), 16 + 5 * index % 44
        x, y = 7 * index % (side - edge), 11 * index % (side - edge)
        ImageDraw.Draw(picture).rectangle((x, y, x + edge, y + edge), fill="white")
        picture.save(folder / "images" / f"{index}.png")
        box = ((x + edge / 2) / side, (y + edge / 2) / side, edge / side, edge / side)
        (folder / "labels" / f"{index}.txt").write_text("0 {} {} {} {}\n".format(*box))
    description = folder / "data.yaml"
    description.write_text(f"path: {folder.resolve()}\ntrain: images\nval: images\nnames: [square]\n")
    return description
