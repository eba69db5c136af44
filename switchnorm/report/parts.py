"""The parts of a segmentation network, whose layers are looked at apart."""

from __future__ import annotations

from switchnorm.report.runs import LayerWeights, Run

# How layers' names begin, in this library's networks and in torchvision's.
_PARTS = {
    "encoder": "Encoder",
    "backbone": "Encoder",
    "decoder": "Decoder",
    "classifier": "Decoder",
    "aux_classifier": "Decoder",
}


def parts(run: Run) -> dict[str, dict[int, list[LayerWeights]]]:
    """A run's importance by epoch, by part of the network; all of it under "" where the network is not of two parts."""
    found = {_PARTS.get(layer.layer.partition(".")[0], "") for layer in run.choices}
    if run.task != "segmentation" or found != {"Encoder", "Decoder"}:
        return {"": run.importance}
    return {
        title: {
            epoch: [layer for layer in layers if _PARTS.get(layer.layer.partition(".")[0]) == title]
            for epoch, layers in run.importance.items()
        }
        for title in ("Encoder", "Decoder")
    }
