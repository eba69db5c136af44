"""By which number a run is judged, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass

from switchnorm.training.scores import SCORE


@dataclass(frozen=True)
class Score:
    """The number by which the runs of a task are judged; scores of different tasks are never compared."""

    task: str
    """As configurations spell it."""
    name: str
    """In the middle of a sentence: "accuracy"."""
    column: str
    """Of metrics.csv, which holds a fraction."""
    others: tuple[tuple[str, str], ...] = ()
    """What else is worth telling of a run: its name and its column."""

    @property
    def title(self) -> str:
        """At the start of a line: "Accuracy"."""
        return self.name[0].upper() + self.name[1:]


#: By task.
SCORES = {
    "classification": Score("classification", "accuracy", SCORE["classification"]),
    "segmentation": Score(
        "segmentation",
        "mean IoU",
        SCORE["segmentation"],
        (("pixel accuracy", "val_accuracy"), ("overall", "val_overall")),
    ),
}
#: What old configurations, which name no task, are about.
CLASSIFICATION = SCORES["classification"]
