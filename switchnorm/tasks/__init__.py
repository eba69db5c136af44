"""What a batch means: the loss and the metrics of each task."""

from switchnorm.tasks.classification import Classification
from switchnorm.tasks.mix import mixing
from switchnorm.tasks.segmentation import Segmentation
from switchnorm.tasks.task import Task

__all__ = ["Classification", "Segmentation", "Task", "mixing"]
