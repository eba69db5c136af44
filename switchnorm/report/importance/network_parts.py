"""The parts of a network whose layers are shown apart: encoder and decoder."""

from __future__ import annotations

from switchnorm.config.task_spec import find_task
from switchnorm.runs.importance import LayerWeights
from switchnorm.runs.run import Run


def network_parts(run: Run) -> dict[str, dict[int, list[LayerWeights]]]:
    """A run's importance by epoch, by part of the network as its task names them; all under "" where it lacks some."""
    titles = find_task(run.task).parts

    def part(layer: LayerWeights) -> str:
        return titles.get(layer.layer.partition(".")[0], "")

    expected = list(dict.fromkeys(titles.values()))
    if not expected or {part(layer) for layer in run.choices} != set(expected):
        return {"": run.importance}
    return {
        title: {epoch: [layer for layer in layers if part(layer) == title] for epoch, layers in run.importance.items()}
        for title in expected
    }
