"""Folders in YOLO's format."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from switchnorm.data.detection.detection_dataset import DetectionDataset
from switchnorm.data.files.named import find_named, find_root
from switchnorm.errors import InputError
from switchnorm.text import canonical

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.detection.annotated import Annotated
    from switchnorm.data.detection.yolo_yaml import YoloDescription


@dataclass(frozen=True)
class Yolo(DetectionDataset):
    """Pictures with a text file for each: in each line a class, and a box or an outline as shares of the sides.

    data.yaml names the classes, a list or numbers with names, and may say where train, val and test are: folders or
    lists of pictures, or several of them. Where it does not, pictures are sought in images/train and train/images,
    likewise val or valid, and test. Labels lie in labels where pictures lie in images, or else beside them; a picture
    without any has no objects. Where `kpt_shape` says that keypoints follow each box, the boxes alone are taken; lines
    that all seem to be such are refused until it is said.
    Without data.yaml, classes.txt or obj.names names a class in each line, or else `names`.

    Args:
        masks: whether outlines are read as masks, where there are some. Detectors of boxes alone need none.
        data_yaml: the file that names the classes and splits, if it is elsewhere or called otherwise.
    """

    masks: bool = True
    data_yaml: str | None = None

    places: ClassVar[tuple[str, ...]] = ("root", "data_yaml")

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: of the option, or in the order of their numbers."""
        if self.names is not None:
            return tuple(canonical(name.strip()) for name in self.names)
        return tuple(self._numbered.values())

    def _find(self, root: Path, split: str) -> "Callable[[], Annotated] | None":
        from switchnorm.data.detection.yolo_folder import YoloSplit, find_yolo  # as `Dataset` explains

        about = self._description
        files = find_yolo(root, split, about, may_miss=self._may_miss)
        if files is None:
            return None
        source = "data.names" if about is None else str(about.file)
        keypoints = None if about is None else about.keypoints
        return lambda: YoloSplit(
            files,
            self._numbered,
            source,
            masks=self.masks,
            may_miss=self._may_miss,
            keypoints=keypoints,
            refusals=self._refusals,
        )

    def _looked_for(self, split: str) -> str:
        from switchnorm.data.detection.yolo_folder import yolo_layouts  # as `Dataset` explains

        return yolo_layouts(split, self._description)

    @property
    def _numbered(self) -> dict[int, str]:
        """The names of the classes by the numbers of the labels."""
        if self._description is not None:
            return self._description.names
        if self.names is not None:
            return dict(enumerate(canonical(name.strip()) for name in self.names))
        from switchnorm.data.detection.yolo_yaml import looked_for  # as `Dataset` explains

        raise InputError(f"{self.root} names no classes; looked for {looked_for()}; data.names can say it")

    @functools.cached_property
    def _description(self) -> "YoloDescription | None":
        from switchnorm.data.detection.yolo_yaml import find_description  # as `Dataset` explains

        root = find_root(self.root)
        return find_description(root, None if self.data_yaml is None else find_named("data_yaml", self.data_yaml, root))
