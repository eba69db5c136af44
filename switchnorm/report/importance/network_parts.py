"""The parts of a network whose layers are shown apart: encoder and decoder, or body, neck and heads."""

from __future__ import annotations

from collections.abc import Mapping

from switchnorm.config.task_spec import find_task
from switchnorm.runs.importance import LayerWeights
from switchnorm.runs.run import Run


def network_parts(run: Run) -> dict[str, dict[int, list[LayerWeights]]]:
    """A run's importance by epoch, by part of the network as its task names them, in the task's order.

    All is under "" where some layer is in none of the parts, or all are in one.
    """
    titles = find_task(run.task).parts
    parts = {layer.layer: part_of(layer.layer, titles) for layer in run.choices}
    found = [title for title in dict.fromkeys(titles.values()) if title in parts.values()]
    if "" in parts.values() or len(found) < 2:
        return {"": run.importance}
    return {
        title: {
            epoch: [layer for layer in layers if parts.get(layer.layer) == title]
            for epoch, layers in run.importance.items()
        }
        for title in found
    }


def part_of(layer: str, titles: Mapping[str, str]) -> str:
    """The title of the part that a layer is in, by the longest beginning of its name; "" where it is in none.

    Args:
        layer: its name, "backbone.fpn.inner_blocks.0.1".
        titles: by beginnings of names, of whole words: "backbone", "backbone.fpn".
    """
    words = layer.split(".")
    beginnings = (".".join(words[:count]) for count in range(len(words), 0, -1))
    return next((titles[beginning] for beginning in beginnings if beginning in titles), "")
