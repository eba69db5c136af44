"""What a batch means: the loss and the metrics of each task."""

from switchnorm.tasks.classification import Classification

__all__ = ["Classification"]
