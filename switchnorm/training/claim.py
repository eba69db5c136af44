"""What somebody reported, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from switchnorm.training.config import ClaimConfig, Config

#: Keys that say where and how a run is computed, and not what is trained.
_COMPUTATION = {
    "train": ("device", "precision", "checkpoint_minutes", "channels_last", "compile", "deterministic", "cuda_graph"),
    "data": ("root", "train_folder", "val_folder", "workers"),
}


def is_changed(written: Config, config: Config) -> bool:
    """Whether `config` trains anything else than `written`; neither the seed nor where the data lies makes it so."""
    if written.data["name"] != config.data["name"] or written.task != config.task:
        return True
    one, other = asdict(written), asdict(config)
    return any(
        one[section][key] != value and key not in _COMPUTATION.get(section, ())
        for section in ("model", "data", "train", "optimizer", "schedule")
        for key, value in other[section].items()
    )


def beside(claim: ClaimConfig, accuracies: Mapping[str, float]) -> str | None:
    """A measured result and the claim about it, in one line.

    Args:
        claim: what is reported.
        accuracies: "val_accuracy" and, where it was measured, "val_accuracy_top5", in [0, 1].

    Returns:
        "top-1 error 6.42 % (published 6.11 %)", with top-1 and top-5 accuracy where these are claimed, and the source;
        None where nothing is.
    """
    top1, top5 = (accuracies.get(name) for name in ("val_accuracy", "val_accuracy_top5"))
    measured = [
        ("top-1 error", None if top1 is None else 100 * (1 - top1), claim.error),
        ("top-1", None if top1 is None else 100 * top1, claim.top1),
        ("top-5", None if top5 is None else 100 * top5, claim.top5),
    ]
    pairs = [
        f"{name} {value:.2f} % (published {reported:.2f} %)"
        for name, value, reported in measured
        if value is not None and reported is not None
    ]
    if not pairs:
        return None
    return "; ".join([", ".join(pairs), *filter(None, (claim.source, claim.status))])
