"""Pictures with the boxes and masks of their objects."""

from __future__ import annotations

from typing import Any

from PIL import Image

from switchnorm.data import DetectionDataset
from switchnorm.data.detection.object_facts import SurveyedObjects
from switchnorm.data.files.surveyed import Surveyed
from switchnorm.data.loaders.damage import read_one
from switchnorm.data.picture import shown
from switchnorm.data.segmentation.class_names import code_of
from switchnorm.tasks.detection.painting import class_colors, paint
from switchnorm.tasks.drawing import Drawing, Drawn


class ObjectDrawing(Drawing):
    """Draws pictures with the boxes, names and masks of their objects; boxes of crowds are dashed."""

    dataset: DetectionDataset

    def stored(self, split: Surveyed, index: int) -> Drawn:
        """As `Drawing`."""
        assert isinstance(split, SurveyedObjects)
        listed = split.listed
        picture = shown(read_one(lambda place: listed.picture(place, split.pixels), index))
        objects = listed.objects(index)
        drawn = paint(
            picture,
            objects.boxes,
            objects.labels,
            self.dataset.classes,
            self._colors,
            None,
            objects.masks,
            objects.crowd,
        )
        return Drawn(drawn, split.title(index))

    def trained(self, picture: Image.Image, target: Any) -> Drawn:
        """As `Drawing`; the target is that of a training batch, see `TrainingObjects`."""
        height, width = target["size"].tolist()
        masks = None if "masks" not in target else [mask[:height, :width].cpu().numpy() for mask in target["masks"]]
        boxes, labels = target["boxes"].cpu(), target["labels"].cpu()
        picture = picture.crop((0, 0, width, height))
        return Drawn(paint(picture, boxes, labels, self.dataset.classes, self._colors, masks=masks), "")

    def colours(self) -> dict[str, str]:
        """As `Drawing`: of the classes."""
        return dict(zip(self.dataset.classes, map(code_of, self._colors.tolist()), strict=True))

    @property
    def _colors(self) -> Any:
        return class_colors(self.dataset.num_classes)
