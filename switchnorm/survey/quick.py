"""A moment's look at data before a training: some samples of each split, the same ones each time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from switchnorm.data import Dataset
from switchnorm.data.files.surveyed import UNFIT, Surveyed
from switchnorm.data.segmentation.pair_facts import FOREIGN
from switchnorm.errors import InputError
from switchnorm.survey.findings import Seen, agreeing, findings
from switchnorm.survey.readers import look_in_threads
from switchnorm.survey.summary import Summary

#: Samples of a split, and bytes of their files, by the size of a few.
_SAMPLES, _BYTES, _FEW = 128, 32 << 20, 8
#: Lines that a start says about data; more where the dataset has more to say of itself, which changes what is trained.
_LINES = 6


def quick_look(dataset: Dataset, training: Sequence[int] = ()) -> tuple[str, ...]:
    """Look at some samples of each split before any is trained on.

    Which samples depends on the data alone. They are spread evenly over each split, and as few as keep this within a
    second or two.

    Args:
        dataset: prepared.
        training: training samples to look at besides, such as those of the first step.

    Returns:
        What is unusual, a line each.

    Raises:
        InputError: one at which training or its validation would stop.
    """
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for split in dataset.surveyed():
            summary = Summary(split.name, len(split), split.unit, split.targets)
            chosen = set(sample(split)) | set(training if split.name == "train" else ())
            for index, facts in look_in_threads(split, sorted(chosen)):
                if facts.wrong is not None:
                    raise InputError(_refusal(dataset, split, index, *facts.wrong[:2]))
                summary.add(index, facts)
            seen.append(Seen(summary, split))
        known = dataset.unusual()
        found = [each.text for each in findings(seen, dataset.classes, known)]
    return _shortened(found, max(_LINES, len(known) + 1))


def sample(split: Surveyed) -> Sequence[int]:
    """The samples to look at: as many as are read in a moment, evenly spread from the first on."""
    probe = evenly(len(split), _FEW)
    size = sum(split.bytes_of(index) for index in probe) / max(len(probe), 1)
    affordable = int(_BYTES / size) if size else _SAMPLES
    return evenly(len(split), min(max(affordable, _FEW), _SAMPLES))


def evenly(total: int, count: int) -> Sequence[int]:
    """So many of `total` indices, or all, evenly spread."""
    count = min(count, total)
    return [place * total // count for place in range(count)]


def _refusal(dataset: Dataset, split: Surveyed, index: int, kind: str, detail: str) -> str:
    if kind == FOREIGN:  # at which training stops in any case; it says all that there is to say
        return f"{detail}. `switchnorm check` looks at all"
    reason = f" ({detail})" if detail else ""
    advice = ", or set data.on_damaged to 'skip'" if hasattr(dataset, "on_damaged") else ""
    advice = "" if kind == UNFIT else f"; mend it{advice}"
    return (
        f"a {split.name} picture {agreeing(1, kind)}: {split.place(index)}{reason}{advice}. "
        "`switchnorm check` looks at all"
    )


def _shortened(lines: Sequence[str], most: int) -> tuple[str, ...]:
    if len(lines) <= most:
        return tuple(lines)
    return (*lines[: most - 1], f"and {len(lines) - most + 1} more remarks; `switchnorm check` shows all")
