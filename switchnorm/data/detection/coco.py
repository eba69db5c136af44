"""COCO, and whatever else is written in its format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from switchnorm.classes import COCO
from switchnorm.data.detection.detection_dataset import DetectionDataset
from switchnorm.data.files.members import is_url
from switchnorm.data.files.named import find_named
from switchnorm.errors import InputError
from switchnorm.text import expanded

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.detection.annotated import Annotated


@dataclass(frozen=True)
class Coco(DetectionDataset):
    """COCO (Lin et al., "Microsoft COCO: Common Objects in Context", 2014), or any data with files in its format.

    The pictures of split train are listed by annotations/instances_train2017.json, or that of another year, and lie in
    train2017; without a year annotations/instances_train.json or annotations/train.json and train, images/train or
    images; or by train/_annotations.coco.json beside them. Likewise val and test, also called valid. Classes are the
    categories, in the order of their ids. `iscrowd` marks crowds, and `ignore` objects that do not count either. `area`
    decides which objects are small; where it is absent, that of the mask, or else of the box.

    Args:
        masks: whether masks are read, where there are some. Detectors of boxes alone need none.
        train_json: the file that lists the training pictures, if it is elsewhere.
        test_json: the file that lists those of `split`.
        train_pictures: the folder from which the paths of the training pictures count, if it is elsewhere; or where
            WebDataset's shards with them lie, a folder or a URL that fsspec knows.
        test_pictures: that of those of `split`.
    """

    masks: bool = True
    train_json: str | None = None
    test_json: str | None = None
    train_pictures: str | None = None
    test_pictures: str | None = None

    places: ClassVar[tuple[str, ...]] = ("root", "train_json", "test_json", "train_pictures", "test_pictures")
    benchmark_size: ClassVar[int | None] = 5_000  # of split val in 2017
    usual_classes: ClassVar[tuple[str, ...]] = COCO

    def _find(self, root: Path, split: str) -> "Callable[[], Annotated] | None":
        from switchnorm.data.detection.coco_folder import CocoSplit, find_coco  # as `Dataset` explains

        kind = "train" if split == "train" else "test"
        named, folder = getattr(self, f"{kind}_json"), getattr(self, f"{kind}_pictures")
        place = find_coco(
            root,
            split,
            None if named is None else find_named(f"{kind}_json", named, root),
            None if folder is None else _folder(f"{kind}_pictures", folder, root),
        )
        if place is None:
            return None
        return lambda: CocoSplit(place, masks=self.masks, may_miss=self._may_miss, refusals=self._refusals)

    def _looked_for(self, split: str) -> str:
        from switchnorm.data.detection.coco_folder import coco_layouts  # as `Dataset` explains

        return f"what {'train_json' if split == 'train' else 'test_json'} names, {coco_layouts(split)}"


def _folder(option: str, name: str, root: Path) -> Path | str:
    """The folder of that name: absolute, from the folder one stands in, or from the dataset's; a URL stays one."""
    if is_url(name):
        return name
    named = expanded(option, name)
    places = [named] if named.is_absolute() else [named, root / named]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(f"{option} {name!r} is not a folder, neither here nor in {root}")
    return found
