"""What layers with batch statistics normalize by in an evaluation, as users write it; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from switchnorm.config.ranges import Range
from switchnorm.errors import InputError, unknown

#: How each kind is written; N is a number of batches.
KINDS = ("running", "batch", "calibrate:N")
#: Of a number that is too large; Python reads no thousands of them.
_DIGITS = 40


@dataclass(frozen=True)
class EvaluationStatistics:
    """What layers with batch statistics normalize by in an evaluation.

    Attributes:
        kind: "running", the running statistics that the checkpoint holds; "batch", the statistics of the evaluated
            batch; "calibrate", running statistics that are averaged anew over training batches.
        batches: of the training set, for "calibrate"; else 0.
    """

    kind: Literal["running", "batch", "calibrate"] = "running"
    batches: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.batches}" if self.kind == "calibrate" else self.kind


def parse_statistics(text: str) -> EvaluationStatistics:
    """Read "running", "batch" or "calibrate:N", for example "calibrate:200".

    Raises:
        InputError: anything else, with the nearest that is valid.
    """
    kind, _, count = text.partition(":")
    if kind == "calibrate":
        if count.isdecimal() and count.strip("0"):
            Range(1).check("the batches of calibrate:N", int(count[:_DIGITS]))
            return EvaluationStatistics("calibrate", int(count))
        raise InputError(
            f"statistics {text!r} must name a number of batches of at least 1; the nearest is 'calibrate:1'"
        )
    if text in ("running", "batch"):
        return EvaluationStatistics("running" if text == "running" else "batch")
    raise unknown("statistics", text, KINDS)
