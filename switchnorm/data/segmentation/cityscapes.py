"""Cityscapes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from switchnorm.data.datasets.options import check_choice
from switchnorm.data.segmentation.class_names import Color
from switchnorm.data.segmentation.labels import Numbering
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.files.pairs import Pairs

#: The evaluated classes: number in the official masks, and colour.
_CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_IDS = tuple(number for number, _ in _CLASSES.values())
_OTHER_IDS = tuple(number for number in range(34) if number not in _IDS)
_LICENSE_PLATE = 255  # the official number is -1

_NUMBERINGS = {
    "labelIds": Numbering(_IDS, (*_OTHER_IDS, _LICENSE_PLATE)),
    "labelTrainIds": Numbering(tuple(range(len(_IDS))), (255,)),
}


@dataclass(frozen=True)
class Cityscapes(SegmentationDataset):
    """Cityscapes' 19 evaluated classes (Cordts et al., 2016), finely annotated.

    Pictures leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png, masks gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png.

    Args:
        masks: labelIds, the official masks; or labelTrainIds, those that number the evaluated classes from 0 to 18.
            Predictions are written in the same numbers.
    """

    masks: Literal["labelIds", "labelTrainIds"] = "labelIds"

    classes: ClassVar[tuple[str, ...]] = tuple(_CLASSES)
    benchmark_size: ClassVar[int | None] = 500  # of split val
    class_colors: ClassVar[tuple[Color, ...]] = tuple(color for _, color in _CLASSES.values())

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("masks", self.masks, ("labelIds", "labelTrainIds"))

    @property
    def numbering(self) -> Numbering:
        """How the masks number the classes."""
        return _NUMBERINGS[self.masks]

    def _find(self, root: Path, split: str) -> "Pairs | None":
        from switchnorm.data.files.pairs import pair_up  # as `Dataset` explains
        from switchnorm.data.files.suffixes import Suffixes

        pictures, masks = root / "leftImg8bit" / split, root / "gtFine" / split
        if not pictures.is_dir() or not masks.is_dir():
            return None
        suffixes = Suffixes("_leftImg8bit", f"_gtFine_{self.masks}")
        return pair_up(pictures, masks, suffixes, may_miss=self._may_miss)

    def _looked_for(self, split: str) -> str:
        return f"leftImg8bit/{split} with gtFine/{split}"
