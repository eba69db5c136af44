"""The registration of image classification."""

from __future__ import annotations

from pathlib import Path

from switchnorm.config.task_spec import Claim, Flag, Metric, TaskSpec

CLASSIFICATION = TaskSpec(
    "classification",
    task="switchnorm.tasks.classification.task:Classification",
    metrics=(Metric("val_accuracy", "top-1", "accuracy"), Metric("val_accuracy_top5", "top-5")),
    score_title="validation accuracy",
    pipeline="image-classification",
    example="resnetv1sn50",
    dataset="folder",
    claims=(
        Claim("top1", "top-1", "val_accuracy"),
        Claim("top5", "top-5", "val_accuracy_top5"),
        Claim("error", "top-1 error", "val_accuracy", error=True),
    ),
    flags=(
        Flag(
            "--save",
            "write logits, labels and names of the pictures as arrays of numpy",
            options={"type": Path, "metavar": "FILE.npz"},
            output="switchnorm.tasks.classification.outputs:SavedLogits",
            suffix=".npz",
        ),
    ),
    drawing="switchnorm.tasks.classification.drawing:LabelDrawing",
    views=("centre", "flip", "ten"),
    evaluation_batch=256,
    adapter="switchnorm.deploy.adapters:Logits",
    answering="switchnorm.deploy.answering.classification:Classifying",
)
