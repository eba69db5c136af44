"""Pascal VOC, and whatever else is written in its format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from switchnorm.data.datasets.options import check_choice
from switchnorm.data.detection.detection_dataset import DetectionDataset
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.detection.annotated import Annotated

_CLASSES = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa
train tvmonitor
"""


@dataclass(frozen=True)
class Voc(DetectionDataset):
    """Pascal VOC (Everingham et al., "The Pascal Visual Object Classes Challenge", 2010), or any data in its format.

    Pictures in JPEGImages, an XML file for each in Annotations, and the splits in ImageSets/Main/train.txt, val.txt and
    test.txt; in `root`, or in VOC2007 or VOCdevkit/VOC2007 there if there is one year. Or without lists: train, val or
    valid, and test with XML files beside the pictures, or in annotations/train with pictures in images/train. Classes
    are the names that the training pictures have, sorted. The area of an object is that of its box.

    Args:
        train_split: the list that is trained on: train, or trainval, which is for a `split` test.
        one_based: whether the first pixel is 1 and xmax and ymax are the last pixels of a box, as in the challenges'
            own annotations, whose boxes then begin a pixel earlier. By default all four are edges from 0, as nearly
            all tools write them today (labelImg, CVAT, Roboflow); the difference is a pixel.
        difficult: what objects are that are marked as difficult: ignore them, neither to be learned nor to be counted,
            as the challenge does, or keep them as all others.
    """

    train_split: Literal["train", "trainval"] = "train"
    one_based: bool = False
    difficult: Literal["ignore", "keep"] = "ignore"

    usual_classes: ClassVar[tuple[str, ...]] = tuple(_CLASSES.split())
    _uncounted: ClassVar[str] = "objects are difficult"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("train_split", self.train_split, ("train", "trainval"))
        check_choice("difficult", self.difficult, ("ignore", "keep"))
        if self.train_split == "trainval" and self.split == "val":
            raise InputError("train_split 'trainval' holds the pictures of split 'val'; set split to 'test'")

    def unusual(self, *, training: bool = True) -> tuple[str, ...]:
        """As of `DetectionDataset`; and whether the first pixel may be 1."""
        return (*super().unusual(training=training), *self._about_corners())

    def _about_corners(self) -> Iterator[str]:
        if not self.one_based and any(self._official.values()):
            yield (
                "the annotations are those of the VOC challenges, which count pixels from 1, and are read as edges "
                "from 0; set data.one_based to true"
            )

    def _find(self, root: Path, split: str) -> "Callable[[], Annotated] | None":
        from switchnorm.data.detection.voc_folder import VocSplit, find_voc  # as `Dataset` explains

        files = find_voc(root, self.train_split if split == "train" else split, may_miss=self._may_miss)
        if files is None:
            return None

        def read() -> VocSplit:
            keep, may_miss = self.difficult == "keep", self._may_miss
            found = VocSplit(
                files, one_based=self.one_based, difficult=keep, may_miss=may_miss, refusals=self._refusals
            )
            self._official[split] = found.official
            return found

        return read

    @property
    def _official(self) -> dict[str, bool]:
        """Whether the annotations of the splits that were read are the challenges' own."""
        found: dict[str, bool] = vars(self).setdefault("_of_challenge", {})
        return found

    def _looked_for(self, split: str) -> str:
        from switchnorm.data.detection.voc_folder import voc_layouts  # as `Dataset` explains

        return voc_layouts(self.train_split if split == "train" else split)
