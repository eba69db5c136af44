"""What validation of a detector measures, as COCO's evaluation defines it. Needs no torch."""

from __future__ import annotations

from itertools import product

from switchnorm.config.task_spec import Metric

#: The twelve numbers of COCO's evaluation, in its order: the end of a column's name, and the title.
STATS = (
    ("ap", "AP"),
    ("ap50", "AP50"),
    ("ap75", "AP75"),
    ("ap_small", "AP small"),
    ("ap_medium", "AP medium"),
    ("ap_large", "AP large"),
    ("ar1", "AR1"),
    ("ar10", "AR10"),
    ("ar", "AR"),
    ("ar_small", "AR small"),
    ("ar_medium", "AR medium"),
    ("ar_large", "AR large"),
)
#: What is compared: how columns of it begin, and its title.
KINDS = (("", "box"), ("mask_", "mask"))
#: The numbers that reports compare runs by; all others are in the run's files.
_REPORTED = ("ap", "ap50", "ap75")


def column(kind: str, stat: str) -> str:
    """The column of a number: of boxes ("") or masks ("mask_")."""
    return f"val_{kind}{stat}"


#: The first, box AP, is the score. A network without masks has none of the mask's.
METRICS = tuple(
    Metric(
        column(kind, stat),
        f"{word} {title}",
        f"{'mask ' if kind else ''}{title}" if stat in _REPORTED else "",
    )
    for (kind, word), (stat, title) in product(KINDS, STATS)
)
