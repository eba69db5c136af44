"""Networks for object detection and instance segmentation."""

from switchnorm.models.detection.body import timm_of
from switchnorm.models.detection.build import FAMILIES as TWO_STAGE
from switchnorm.models.detection.dense_build import FAMILIES as DENSE
from switchnorm.models.detection.published import published_eval
from switchnorm.models.family import Family

FAMILIES: tuple[Family, ...] = (*TWO_STAGE, *DENSE)

__all__ = ["FAMILIES", "published_eval", "timm_of"]
