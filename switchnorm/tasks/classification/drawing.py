"""Samples with one label each: the name of the class stands below the picture."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from switchnorm.data.files.surveyed import Surveyed
from switchnorm.tasks.drawing import Drawing, Drawn


class LabelDrawing(Drawing):
    """Draws pictures with their classes."""

    def stored(self, split: Surveyed, index: int) -> Drawn:
        """As `Drawing`."""
        return Drawn(split.picture(index), f"{self._name(split.label(index))}: {split.title(index)}")

    def trained(self, picture: Image.Image, target: Tensor) -> Drawn:
        """As `Drawing`."""
        return Drawn(picture, self._name(int(target)))

    def _name(self, label: int) -> str:
        names = self.dataset.classes
        return names[label] if 0 <= label < len(names) else f"label {label}"
