"""What each task measures, and by which of it a run is judged; needs no torch."""

from __future__ import annotations

from switchnorm.training.config import Task

#: The metric by which a run is judged: the best checkpoint has the highest.
SCORE: dict[Task, str] = {"classification": "val_accuracy", "segmentation": "val_mean_iou"}

#: What validation measures, losses aside, in the order in which it is told.
MEASURED: dict[Task, tuple[str, ...]] = {
    "classification": ("val_accuracy", "val_accuracy_top5"),
    "segmentation": ("val_mean_iou", "val_accuracy", "val_overall"),
}

#: What the metrics are called in words.
TITLES: dict[Task, dict[str, str]] = {
    "classification": {"val_loss": "loss", "val_accuracy": "top-1", "val_accuracy_top5": "top-5"},
    "segmentation": {
        "val_loss": "loss",
        "val_mean_iou": "mean IoU",
        "val_accuracy": "pixel accuracy",
        "val_overall": "overall score",
    },
}


def title(task: Task) -> str:
    """The score in words: "validation accuracy"."""
    return "validation accuracy" if task == "classification" else TITLES[task][SCORE[task]]


def columns(task: Task) -> tuple[str, ...]:
    """The columns of metrics.csv."""
    return (
        *("epoch", "step", "train_loss", "train_accuracy", "val_loss"),
        *MEASURED[task],
        *("learning_rate", "radius", "images_per_second"),
    )
