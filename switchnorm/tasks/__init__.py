"""What a batch means: the loss and the metrics of each task."""

from switchnorm.tasks.classification import Classification
from switchnorm.tasks.mix import mixing

__all__ = ["Classification", "mixing"]
