"""The metric by which a run is judged, and how reports name it."""

from __future__ import annotations

from dataclasses import dataclass

from switchnorm.config.task_spec import find_task


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
    """Further metrics that reports show: name and column."""
    remark: str = ""
    """A sentence on how it is counted."""

    @property
    def title(self) -> str:
        """At the start of a line: "Accuracy"."""
        return self.name[0].upper() + self.name[1:]


def score_of(task: str) -> Score:
    """The score of a task's runs; raise `InputError` with the nearest name for an unknown task."""
    spec = find_task(task)
    first, *rest = spec.metrics
    others = tuple((metric.name, metric.column) for metric in rest if metric.name)
    return Score(task, first.name or first.title, first.column, others, spec.remark)
