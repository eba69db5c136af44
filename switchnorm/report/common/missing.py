"""What a study's table lacks, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
