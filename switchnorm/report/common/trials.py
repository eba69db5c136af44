"""Which runs count in a table's numbers: those that came to their end with a score, each seed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from switchnorm.runs.run import Run


@dataclass(frozen=True)
class Trial:
    """One seed: its score as a fraction, or why there is none."""

    seed: Any
    value: float | None
    reason: str = ""
    pending: bool = False
    run: Run | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended without a result."""
        return self.value is None and not self.pending


def trial(run: Run) -> Trial:
    """What a run counts for: its score after the last epoch if it came to its end, and otherwise nothing."""
    if run.diverged is not None:
        return Trial(run.seed, None, f"diverged in epoch {run.diverged}: the loss is no number", run=run)
    if not run.finished:
        return Trial(run.seed, None, pending=True, run=run)
    values = list(run.measured(run.score.column).values())
    if not values:
        return Trial(run.seed, None, f"no validation {run.score.name} was measured", run=run)
    return Trial(run.seed, values[-1], run=run)


def each_seed_once(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Runs of one configuration, of each seed one; and those that are left out, since their seed is there already.

    A seed that is trained again is no second sample of what seeds do. Of its runs that ended the first that was begun
    counts, which no result has a say in. Runs whose seed nobody knows are each of their own.

    Returns:
        Those that are there for their seed: first the ones with a score, by seed. Then the others.
    """
    kept: dict[Any, Run] = {}
    repeated: list[Run] = []
    for place, run in enumerate(sorted(runs, key=_first_ended)):
        key = (run.seed,) if run.seed is not None else ("unknown", place)
        if kept.setdefault(key, run) is not run:
            repeated.append(run)
    return sorted(kept.values(), key=_counted_first), repeated


def _first_ended(run: Run) -> tuple[bool, str]:
    return trial(run).pending, str(run.provenance.get("created") or "")


def _counted_first(run: Run) -> tuple[bool, bool, str]:
    return trial(run).value is None, run.seed is None, str(run.seed)
