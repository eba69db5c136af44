"""Pictures under the colours of their masks."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from switchnorm.data.files.surveyed import Surveyed
from switchnorm.data.loaders.damage import read_one
from switchnorm.data.picture import shown
from switchnorm.data.segmentation import SegmentationDataset
from switchnorm.data.segmentation.class_names import code_of
from switchnorm.data.segmentation.pair_facts import SurveyedPairs
from switchnorm.data.segmentation.palette import overlay
from switchnorm.data.segmentation.scene_readers import PairReader
from switchnorm.tasks.drawing import Drawing, Drawn


class MaskDrawing(Drawing):
    """Draws pictures with the colour of each pixel's class over them; what does not count stays as it is."""

    dataset: SegmentationDataset

    def stored(self, split: Surveyed, index: int) -> Drawn:
        """As `Drawing`."""
        assert isinstance(split, SurveyedPairs)
        picture, labels = read_one(PairReader(split.pairs, split.legend, split.pixels), index)
        return Drawn(overlay(shown(picture), labels, self.dataset.palette), split.title(index))

    def trained(self, picture: Image.Image, target: Tensor) -> Drawn:
        """As `Drawing`; labels of every few pixels are enlarged."""
        labels = Image.fromarray(target.to("cpu").numpy().astype(np.uint8))
        labels = labels.resize(picture.size, Image.Resampling.NEAREST)
        return Drawn(overlay(picture, labels, self.dataset.palette), "")

    def colours(self) -> dict[str, str]:
        """As `Drawing`: of the classes."""
        return dict(zip(self.dataset.classes, map(code_of, self.dataset.palette.tolist()), strict=True))
