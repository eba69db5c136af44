"""What somebody reported, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from switchnorm.training.config import ClaimConfig, Config

#: Keys that say where and how a run is computed, and not what is trained.
_COMPUTATION = {
    "train": ("device", "precision", "checkpoint_minutes", "channels_last", "compile", "deterministic", "cuda_graph"),
    "data": ("root", "train_folder", "val_folder", "train_list", "val_list", "workers"),
    "segmentation": ("examples",),
}


def is_changed(written: Config, config: Config) -> bool:
    """Whether `config` trains anything else than `written`; neither the seed nor where the data lies makes it so.

    Nor does it where the weights lie that an encoder starts with: what is published of segmentation has some.
    """
    if written.data["name"] != config.data["name"] or written.task != config.task:
        return True
    one, other = asdict(written), asdict(config)
    if config.task == "segmentation":
        one["train"]["warm_start"] = other["train"]["warm_start"]
    return any(
        one[section][key] != value and key not in _COMPUTATION.get(section, ())
        for section in ("model", "data", "train", "optimizer", "schedule", "segmentation")
        for key, value in other[section].items()
    )


def beside(claim: ClaimConfig, accuracies: Mapping[str, float]) -> str | None:
    """A measured result and the claim about it, in one line.

    Args:
        claim: what is reported.
        accuracies: what was measured, in [0, 1], under the names of the columns of metrics.csv.

    Returns:
        "top-1 error 6.42 % (published 6.11 %)", with whatever else is claimed and was measured, and the source; None
        where nothing is.
    """
    pairs = [
        f"{name} {100 * (1 - accuracies[column] if name == 'top-1 error' else accuracies[column]):.2f} % "
        f"(published {reported:.2f} %)"
        for name, column, reported in (
            ("top-1 error", "val_accuracy", claim.error),
            ("top-1", "val_accuracy", claim.top1),
            ("top-5", "val_accuracy_top5", claim.top5),
            ("mean IoU", "val_mean_iou", claim.mean_iou),
            ("pixel accuracy", "val_accuracy", claim.pixel_accuracy),
            ("overall score", "val_overall", claim.overall),
        )
        if reported is not None and column in accuracies
    ]
    if not pairs:
        return None
    return "; ".join([", ".join(pairs), *filter(None, (claim.source, claim.status))])
