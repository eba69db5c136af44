"""Pictures with the objects on them: boxes, classes, and masks where there are some."""

from switchnorm.data.detection.objects import Objects
from switchnorm.data.detection.scene import DetectionScene

__all__ = ["DetectionScene", "Objects"]
