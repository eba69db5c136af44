"""The same pictures with the same objects in the three formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from PIL import Image

from tests.data.photos import photo


class Thing(NamedTuple):
    """An object: what it is, and x1, y1, x2, y2 in pixels."""

    name: str
    box: tuple[float, float, float, float]
    outline: tuple[float, ...] = ()


class Sheet(NamedTuple):
    """A picture: what its file is called, its width and height, and what is on it."""

    name: str
    size: tuple[int, int]
    things: tuple[Thing, ...] = ()


#: One has an object of each class, one has none.
SHEETS = (
    Sheet("a.jpg", (40, 30), (Thing("dog", (3, 4, 20, 16)), Thing("cat", (10.5, 2.25, 33.5, 28)))),
    Sheet("b.jpg", (24, 36)),
    Sheet("c.jpg", (36, 24), (Thing("cat", (0, 0, 36, 24)),)),
)
CLASSES = ("cat", "dog")


def write_pictures(folder: Path, sheets=SHEETS, taken_from: Path | None = None) -> None:
    """Photographs of the sizes, or copies of those in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, sheet in enumerate(sheets):
        if taken_from is not None:
            shutil.copy(taken_from / sheet.name, folder)
        else:
            photo(seed, *sheet.size).save(folder / sheet.name, quality=95)


def xml_of(sheet: Sheet, *, size: bool = True, extra: str = "") -> str:
    """The annotation of a picture in VOC's format, whose corners are edges."""
    width, height = sheet.size
    objects = "".join(
        f"<object>\n<name>{escape(name)}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>\n"
        for name, box, _ in sheet.things
    )
    stated = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{sheet.name}</filename>{stated}\n{objects}{extra}</annotation>"


def write_voc(root: Path, splits=None, taken_from: Path | None = None) -> Path:
    """JPEGImages, Annotations and ImageSets; by default all pictures are in both splits."""
    for split, sheets in (splits or {"train": SHEETS, "val": SHEETS}).items():
        write_pictures(root / "JPEGImages", sheets, taken_from)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        for sheet in sheets:
            (root / f"Annotations/{Path(sheet.name).stem}.xml").write_text(xml_of(sheet))
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{Path(each.name).stem}\n" for each in sheets))
    return root


def coco_of(sheets=SHEETS, classes=CLASSES, first_id: int = 3) -> dict[str, list]:
    """What COCO's file says; the ids of categories have gaps."""
    ids = {name: first_id + 2 * place for place, name in enumerate(classes)}
    annotations = []
    for number, sheet in enumerate(sheets, 10):
        for name, (x1, y1, x2, y2), outline in sheet.things:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": ids[name], "iscrowd": 0}
            entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            entry |= {"segmentation": [list(outline)]} if outline else {}
            annotations.append(entry)
    images = [
        {"id": number, "file_name": sheet.name, "width": sheet.size[0], "height": sheet.size[1]}
        for number, sheet in enumerate(sheets, 10)
    ]
    categories = [{"id": ids[name], "name": name} for name in classes]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path, splits=None, taken_from: Path | None = None, classes=CLASSES) -> Path:
    """annotations/instances_SPLIT2017.json and SPLIT2017."""
    (root / "annotations").mkdir(parents=True)
    for split, sheets in (splits or {"train": SHEETS, "val": SHEETS}).items():
        write_pictures(root / f"{split}2017", sheets, taken_from)
        content = json.dumps(coco_of(sheets, classes))
        (root / f"annotations/instances_{split}2017.json").write_text(content)
    return root


def yolo_of(sheet: Sheet, classes=CLASSES) -> str:
    """The labels of a picture."""
    width, height = sheet.size
    lines = []
    for name, (x1, y1, x2, y2), outline in sheet.things:
        shares = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        if outline:
            shares = [number / (height if place % 2 else width) for place, number in enumerate(outline)]
        lines.append(" ".join([str(classes.index(name)), *(f"{share:.9f}" for share in shares)]))
    return "\n".join(lines)


def write_yolo(root: Path, splits=None, taken_from: Path | None = None, classes=CLASSES) -> Path:
    """images, labels and data.yaml."""
    for split, sheets in (splits or {"train": SHEETS, "val": SHEETS}).items():
        write_pictures(root / "images" / split, sheets, taken_from)
        (root / "labels" / split).mkdir(parents=True)
        for sheet in sheets:
            (root / f"labels/{split}/{Path(sheet.name).stem}.txt").write_text(yolo_of(sheet, classes))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnc: {len(classes)}\nnames: {[*classes]}\n")
    return root


def sized(path: Path) -> tuple[int, int]:
    """Width and height of a picture's file."""
    with Image.open(path) as picture:
        return picture.size
