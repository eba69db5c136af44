"""The registration of semantic segmentation: its part of the configuration, its flags, what it claims and reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.config.ranges import Range
from switchnorm.config.task_spec import Claim, Flag, Metric, TaskSpec
from switchnorm.tasks.segmentation.inference import Inference

if TYPE_CHECKING:
    from switchnorm.config.schema import Config


@dataclass
class SegmentationConfig:
    """What segmentation alone has.

    Args:
        deep_supervision: weight of the loss of the decoder's inner branch, where it has one.
        flip: whether evaluation averages over each picture and its mirror.
        window: side in pixels of the windows that evaluation slides over a picture; null takes pictures whole.
        overlap: share of a window that the next one covers too.
        examples: how many test pictures each validation keeps with target and prediction, for the report.
    """

    deep_supervision: float = 0.4
    flip: bool = False
    window: int | None = None
    overlap: float = 0.33
    examples: int = 4

    def inference(self) -> Inference:
        """How evaluation runs the network; raise `InputError` if that is impossible."""
        return Inference(self.flip, self.window, self.overlap)


def _check(config: Config) -> Iterator[str]:
    for key, off in (("mixup", "0"), ("cutmix", "0"), ("cuda_graph", "false")):
        if getattr(config.train, key):
            yield f"train.{key} is for classification, and {config.data['name']!r} has masks; set it to {off}"
    config.own.inference()


_PREDICTED = ("eval", "predict")

SEGMENTATION = TaskSpec(
    "segmentation",
    task="switchnorm.tasks.segmentation.task:Segmentation",
    metrics=(
        Metric("val_mean_iou", "mean IoU", "mean IoU"),
        Metric("val_accuracy", "pixel accuracy", "pixel accuracy"),
        Metric("val_overall", "overall score", "overall"),
    ),
    score_title="mean IoU",
    pipeline="image-segmentation",
    example="resnet50_dilated8+c1_bilinear_deepsup",
    dataset="masks",
    targets="masks",
    section=SegmentationConfig,
    ranges={
        "deep_supervision": Range(0, most=1000),
        "window": Range(32, most=2**15),
        "overlap": Range(0, below=1),
        "examples": Range(0, most=1000),
    },
    evaluated=("flip", "window", "overlap"),
    check=_check,
    claims=(
        Claim("mean_iou", "mean IoU", "val_mean_iou"),
        Claim("pixel_accuracy", "pixel accuracy", "val_accuracy"),
        Claim("overall", "overall score", "val_overall"),
    ),
    # Published trainings start from ImageNet weights, wherever the file with these is.
    computed=("segmentation.examples", "train.warm_start"),
    flags=(
        Flag("--split", "the pictures to evaluate, val or test", key="data.split", options={"metavar": "SPLIT"}),
        Flag(
            "--confusion",
            "write pixels by true and predicted class as CSV",
            options={"type": Path, "metavar": "FILE"},
            output="switchnorm.tasks.segmentation.outputs:ConfusionFile",
        ),
        Flag(
            "--pictures",
            "write every picture, its truth and the prediction side by side into this folder",
            options={"type": Path, "metavar": "DIR"},
            output="switchnorm.tasks.segmentation.outputs:SideBySide",
            suffix="/",
        ),
        Flag(
            "--worst",
            "with --pictures: only so many, those of the lowest mean IoU",
            options={"type": int, "metavar": "N"},
            changes="--pictures",
            range=Range(1),
        ),
        Flag(
            "--scales",
            "short sides in pixels of the sizes over which predictions are averaged",
            _PREDICTED,
            key="data.test_sides",
            options={"type": int, "nargs": "+", "metavar": "SIDE"},
        ),
        Flag(
            "--flip",
            "average over mirrored pictures too",
            _PREDICTED,
            key="segmentation.flip",
            options={"action": "store_const", "const": True},
        ),
        Flag(
            "--window",
            "slide windows of so many pixels over each picture",
            _PREDICTED,
            key="segmentation.window",
            options={"type": int, "metavar": "SIDE"},
        ),
    ),
    views_hint="take --flip and --scales for segmentation",
    remark=(
        "Mean IoU is over all classes, one that is in neither target nor prediction counting 0; "
        "overall is the mean of it and of the pixel accuracy."
    ),
    # How layers' names begin, in this library's networks and in torchvision's.
    parts={
        "encoder": "Encoder",
        "backbone": "Encoder",
        "decoder": "Decoder",
        "classifier": "Decoder",
        "aux_classifier": "Decoder",
    },
    records="switchnorm.tasks.segmentation.records:records",
    sections="switchnorm.tasks.segmentation.report.sections:sections",
    adapter="switchnorm.deploy.adapters:PixelLogits",
    answering="switchnorm.deploy.answering.segmentation:Segmenting",
    drawing="switchnorm.tasks.segmentation.drawing:MaskDrawing",
)
