"""The flags and the parts of networks that detection's registration has. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from switchnorm.config.ranges import Range
from switchnorm.config.task_spec import Flag

_PREDICTED = ("eval", "predict")

FLAGS = (
    Flag("--split", "the pictures to evaluate, val or test", key="data.split", options={"metavar": "SPLIT"}),
    Flag(
        "--detections",
        "write all detections as COCO's results format has them",
        options={"type": Path, "metavar": "FILE.json"},
        output="switchnorm.tasks.detection.outputs:DetectionsFile",
        suffix=".json",
    ),
    Flag(
        "--pictures",
        "write every picture with its objects, and with the detections, side by side into this folder",
        options={"type": Path, "metavar": "DIR"},
        output="switchnorm.tasks.detection.outputs:SideBySide",
        suffix="/",
    ),
    Flag(
        "--worst",
        "with --pictures: only so many, those with the most mistakes for their objects",
        options={"type": int, "metavar": "N"},
        changes="--pictures",
        range=Range(1),
    ),
    Flag(
        "--score-threshold",
        "drop detections of a lower score",
        _PREDICTED,
        key="detection.score_threshold",
        options={"type": float, "metavar": "SCORE"},
    ),
    Flag(
        "--nms-threshold",
        "of detections of a class that overlap more than this keep the best",
        _PREDICTED,
        key="detection.nms_threshold",
        options={"type": float, "metavar": "IOU"},
    ),
    Flag(
        "--shown",
        "draw detections of this score and more",
        _PREDICTED,
        key="detection.shown",
        options={"type": float, "metavar": "SCORE"},
    ),
    Flag(
        "--side",
        "short side in pixels of the pictures that the network is shown",
        _PREDICTED,
        key="data.test_side",
        options={"type": int, "metavar": "PIXELS"},
    ),
)

#: How layers' names begin, in this library's networks and in torchvision's.
PARTS = {
    "body": "Body",
    "backbone": "Body",
    "neck": "Neck",
    "backbone.fpn": "Neck",
    "rpn": "Proposals",
    "box": "Box head",
    "roi_heads.box_head": "Box head",
    "mask": "Mask head",
    "roi_heads.mask_head": "Mask head",
    "head": "Head",
}

#: What the report says of the scores.
REMARK = (
    "AP is COCO’s: the mean over classes and overlaps from 0.50 to 0.95; AP50 and AP75 are those at one overlap. "
    "At most 100 detections of a picture and class count."
)
