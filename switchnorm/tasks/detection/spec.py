"""The registration of object detection and instance segmentation: its configuration, flags, claims and report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from switchnorm.config.ranges import Range
from switchnorm.config.task_spec import Claim, TaskSpec
from switchnorm.tasks.detection.columns import METRICS, column
from switchnorm.tasks.detection.flags import FLAGS, PARTS, REMARK

if TYPE_CHECKING:
    from switchnorm.config.schema import Config


@dataclass
class DetectionConfig:
    """What detection alone has.

    Args:
        score_threshold: detections of a lower score are dropped.
        nms_threshold: of two detections of a class whose boxes overlap more (in IoU), the better one stays.
        detections: at most so many of a picture stay, the best.
        examples: how many test pictures each validation keeps with objects and detections, for the report.
        shown: the score from which detections are drawn.
    """

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100
    examples: int = 4
    shown: float = 0.5


def _check(config: Config) -> Iterator[str]:
    for key, off in (("mixup", "0"), ("cutmix", "0"), ("label_smoothing", "0"), ("cuda_graph", "false")):
        if getattr(config.train, key):
            yield f"train.{key} is not for detection, and {config.data['name']!r} has boxes; set it to {off}"


DETECTION = TaskSpec(
    "detection",
    task="switchnorm.tasks.detection.task:Detection",
    metrics=METRICS,
    score_title="box AP",
    pipeline="object-detection",
    example="resnet50_fpn+faster_2fc",
    dataset="coco",
    targets="boxes",
    section=DetectionConfig,
    ranges={
        "score_threshold": Range(0, most=1),
        "nms_threshold": Range(0, most=1),
        "detections": Range(1, most=100_000),
        "examples": Range(0, most=1000),
        "shown": Range(0, most=1),
    },
    evaluated=("score_threshold", "nms_threshold", "detections", "shown"),
    check=_check,
    claims=(
        Claim("box_ap", "box AP", column("", "ap")),
        Claim("box_ap50", "box AP50", column("", "ap50")),
        Claim("box_ap75", "box AP75", column("", "ap75")),
        Claim("mask_ap", "mask AP", column("mask_", "ap")),
        Claim("mask_ap50", "mask AP50", column("mask_", "ap50")),
        Claim("mask_ap75", "mask AP75", column("mask_", "ap75")),
    ),
    # Published trainings start from ImageNet weights, wherever the file with these is.
    computed=("detection.examples", "detection.shown", "train.warm_start"),
    flags=FLAGS,
    views_hint="detection takes each picture once",
    remark=REMARK,
    parts=PARTS,
    records="switchnorm.tasks.detection.records:records",
    sections="switchnorm.tasks.detection.report.sections:sections",
    adapter="switchnorm.deploy.detectors:Detections",
    answering="switchnorm.deploy.answering.detection:Detecting",
    drawing="switchnorm.tasks.detection.drawing:ObjectDrawing",
)
