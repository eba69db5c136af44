"""Results on the terminal: plain text in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.case import CPU_TIME, TIME
from benchmarks.runner import Outcome

#: What settles a ratio beside its setting, which is all the rest.
_OF_RATIO = ("of", "over", "quantity", "ratio", "low", "high", "cases", "at_most", "at_least", "met", "headline")


def of_outcome(outcome: Outcome) -> str:
    """A line per way with its time, ratios and memory; a way that was wrong has only the reason."""
    unit = outcome.case.unit
    memory = sorted({name for row in outcome.rows for name in row if name.endswith("_bytes")})
    rows = []
    for row in outcome.rows:
        cells = [row["way"], f"{row['ms']:.2f} ms"]
        if unit:
            cells.append(f"{row[f'{unit}_per_second']:,} {unit}/s")
        cells += [f"{row[name] / 1e6:.2f} MB {_plain(name)}" if name in row else "" for name in memory]
        ratios = [f"{ratio:.2f} x {over}" for over, (ratio, *_) in row["ratios"].items()]
        rows.append([*cells, ", ".join(ratios)])
    failed = [f"  {name}  FAILED, no speed: {why}" for name, why in outcome.failures.items()]
    return "\n".join([*_columns(rows), *failed])


def of_ratios(ratios: Sequence[Mapping[str, Any]]) -> str:
    """A line per ratio and setting, with the target where there is one."""
    rows = []
    for entry in ratios:
        setting = ", ".join(str(value) for name, value in entry.items() if name not in _OF_RATIO)
        quantity = quantity_of(entry)
        spread = f"({entry['low']:.2f}-{entry['high']:.2f})"
        over = f"x {entry['over']}"
        rows.append([setting, entry["of"], quantity, f"{entry['ratio']:.2f}", spread, over, verdict(entry)])
    return "\n".join(_columns(rows))


def quantity_of(entry: Mapping[str, Any]) -> str:
    """What a ratio compares in words; "" for time."""
    quantity = entry["quantity"]
    memory = f"{_plain(quantity)} memory" if quantity.endswith("_bytes") else quantity
    return {TIME: "", CPU_TIME: "CPU time"}.get(quantity, memory)


def _plain(quantity: str) -> str:
    return quantity.removesuffix("_bytes")


def target(entry: Mapping[str, Any]) -> str:
    """The bound of a ratio in words; "" where there is none."""
    if "at_most" in entry:
        return f"at most {entry['at_most']:.2f}"
    return f"at least {entry['at_least']:.2f}" if "at_least" in entry else ""


def verdict(entry: Mapping[str, Any]) -> str:
    """Whether a ratio is what it ought to be; "" where there is no target."""
    return f"{target(entry)}: {'met' if entry['met'] else 'MISSED'}" if "met" in entry else ""


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally many cells as lines, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines
