"""How evaluation shows a picture to a network, as data: needs numpy and Pillow alone, and travels with a network."""

from switchnorm.data.preparation.preparation import Preparation
from switchnorm.data.preparation.rules import Crop, Part, Prepared, ShortSide, ShortSides
from switchnorm.data.preparation.tiling import EvaluationSizes, Tiling

__all__ = ["Crop", "EvaluationSizes", "Part", "Preparation", "Prepared", "ShortSide", "ShortSides", "Tiling"]
