"""CamVid."""

from dataclasses import dataclass
from typing import ClassVar

from switchnorm.data.segmentation.class_names import Color
from switchnorm.data.segmentation.labels import Numbering
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset

_COLORS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (0, 0, 192),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}


@dataclass(frozen=True)
class CamVid(SegmentationDataset):
    """CamVid's road scenes (Brostow, Fauqueur and Cipolla, 2009) in the 11 classes that are commonly evaluated.

    Pictures in train, val and test, masks of the same names in trainannot, valannot and testannot, which number the
    classes from 0; 11 is void.
    """

    classes: ClassVar[tuple[str, ...]] = tuple(_COLORS)
    class_colors: ClassVar[tuple[Color, ...]] = tuple(_COLORS.values())
    numbering: ClassVar[Numbering] = Numbering(tuple(range(11)), (11,))
