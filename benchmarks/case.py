"""What a benchmark is: a job, the ways to do it, and which of them are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import Call, Effort

#: What is compared, unless a pair says otherwise. Other quantities are facts of the ways.
TIME = "time"
#: What the process's threads worked for it, which tells more than the clock where others share the machine.
CPU_TIME = "cpu_time"


def _sound() -> None:
    """The check of a way that needs none."""


@dataclass(frozen=True)
class Way:
    """A way to do a job.

    Attributes:
        run: does it once.
        check: raises `MismatchError` if the result is wrong; nothing is measured before.
        facts: what else is measured, by name, such as "peak_bytes".
    """

    run: Call
    check: Call = _sound
    facts: Callable[[], dict[str, float]] = dict


@dataclass(frozen=True)
class Pair:
    """The quotient of two ways in one quantity, and what it ought to be.

    Attributes:
        of, over: names of the ways.
        quantity: "time", "cpu_time", or the name of a fact.
        label: what `over` is called where that is not its name, for example "floor".
        scale: by which the quantity of `over` is multiplied first.
        at_most, at_least: the target, if there is one.
        headline: whether it is shown in the end, and by the README; the record has all.
    """

    of: str
    over: str
    quantity: str = TIME
    label: str = ""
    scale: float = 1.0
    at_most: float | None = None
    at_least: float | None = None
    headline: bool = False

    def met(self, value: float) -> bool | None:
        """Whether a value, as it is printed with two decimals, reaches the target; None without a target."""
        if self.at_most is not None:
            return round(value, 2) <= round(self.at_most, 2)
        return None if self.at_least is None else round(value, 2) >= round(self.at_least, 2)


@dataclass(frozen=True)
class Case:
    """A job in one setting.

    Attributes:
        facts: the setting, by name, as in the record: "job", "phase", "shape", "layout", "dtype", ...
        ways: makes the ways by name; called when it is the case's turn, so that only one case occupies memory.
        pairs: the comparisons. A pair whose way is missing or was found wrong is left out.
        effort: how long to time.
        device: whose clock to use.
        amount, unit: what one call gets done, for a speed such as "images" per second.
    """

    facts: dict[str, Any]
    ways: Callable[[], Mapping[str, Way]]
    pairs: tuple[Pair, ...]
    effort: Effort
    device: str = "cpu"
    amount: int = 0
    unit: str = field(default="")

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.facts.values())
