"""A folder of small scenes with masks, which a network learns within a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("sky", "ground", "box")
VOID = 9


def write_scenes(root: Path, counts: dict[str, int], size: tuple[int, int] = (40, 56)) -> Path:
    """Pictures of sky above ground with a box, their masks, and the list of classes; every third one stands upright.

    Args:
        root: where to.
        counts: how many of each split.
        size: (height, width) of those that lie.
    """
    draw = np.random.default_rng(0)
    colors = np.array([[90, 140, 220], [110, 90, 60], [220, 60, 50]])
    root.mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for split, count in counts.items():
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir()
        for number in range(count):
            height, width = size if number % 3 else size[::-1]
            labels = np.zeros((height, width), np.uint8)
            labels[draw.integers(height // 3, 2 * height // 3) :] = 1
            top, left = draw.integers(0, height - 12), draw.integers(0, width - 12)
            labels[top : top + 12, left : left + 12] = 2
            noise = draw.normal(0, 12, (height, width, 3))
            picture = np.clip(colors[labels] + noise, 0, 255).astype(np.uint8)
            labels[:2] = VOID
            Image.fromarray(picture).save(root / split / f"{split}{number:02}.png")
            Image.fromarray(labels).save(root / f"{split}annot" / f"{split}{number:02}.png")
    return root
