"""What a table lacks, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from switchnorm.report.common.groups import Group

# A mistake in the recipe fails every training for the same reason: the rest is only counted.
_MOST_REASONS = 8


def missing(failed: Sequence[tuple[str, str]], pending: int) -> Iterator[str]:
    """A sentence for each training that left no result.

    Args:
        failed: what each that failed is called, "SN (8, 2), seed 0", and why.
        pending: how many are under way or still to come.
    """
    for title, reason in failed[:_MOST_REASONS]:
        yield f"{title} failed: {reason.rstrip('.')}."
    if len(failed) > _MOST_REASONS:
        yield f"{len(failed) - _MOST_REASONS} more trainings failed."
    if pending:
        yield f"{pending} training{' has' if pending == 1 else 's have'} not finished."


def trained_again(groups: Sequence[tuple[str, Group]]) -> Iterator[str]:
    """A sentence for each run that counts for nothing, since its seed was trained before.

    Args:
        groups: what each is called, and its runs.
    """
    said = [
        f"{title}, seed {again.seed} was trained more than once: {first.path} counts, and {again.path} does not."
        for title, group in groups
        for again in group.repeated
        for first in group.runs
        if first.seed == again.seed
    ]
    yield from said[:_MOST_REASONS]
    if len(said) > _MOST_REASONS:
        yield f"{len(said) - _MOST_REASONS} more runs do not count, for their seeds were trained before."
