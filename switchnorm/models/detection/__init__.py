"""Networks for object detection and instance segmentation."""

from switchnorm.models.detection.build import FAMILIES
from switchnorm.models.detection.published import published_eval

__all__ = ["FAMILIES", "published_eval"]
