"""A folder of small pictures with objects in COCO's format, which a detector learns within a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("square", "bar")
#: The pictures of each split without objects.
EMPTY = (1, 3, 4, 6)


def write_objects(root: Path, counts: dict[str, int], size: tuple[int, int] = (48, 64)) -> Path:
    """Bright squares and bars on a dark ground, some of them a crowd; every third picture stands upright.

    Args:
        root: where to: SPLIT/*.png, and annotations/SPLIT.json.
        counts: how many of each split.
        size: (height, width) of those that lie.
    """
    draw = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count in counts.items():
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            height, width = size if number % 3 else size[::-1]
            picture = draw.normal(60, 12, (height, width, 3))
            name = f"{split}{number:02}.png"
            images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
            for label in range(0 if number in EMPTY else 2):
                tall, wide = ((16, 16), (10, 30))[label]
                top, left = int(draw.integers(0, height - tall)), int(draw.integers(0, width - wide))
                picture[top : top + tall, left : left + wide, label] += 150
                corners = [left, top, left + wide, top, left + wide, top + tall, left, top + tall]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number + 1,
                        "category_id": label + 1,
                        "bbox": [left, top, wide, tall],
                        "area": wide * tall,
                        "iscrowd": 0,
                        "segmentation": [corners],
                    }
                )
            Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(root / split / name)
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root
