"""Pictures with the objects on them: boxes, classes, and masks where there are some."""

from switchnorm.data.detection.coco import Coco
from switchnorm.data.detection.detection_dataset import DetectionDataset
from switchnorm.data.detection.objects import Objects
from switchnorm.data.detection.scene import DetectionScene
from switchnorm.data.detection.voc import Voc
from switchnorm.data.detection.yolo import Yolo

__all__ = ["Coco", "DetectionDataset", "DetectionScene", "Objects", "Voc", "Yolo"]
