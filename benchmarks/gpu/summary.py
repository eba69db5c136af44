"""What the records say, on a screen: targets first, whether they are met, and what went wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.gpu.job import path_of
from benchmarks.text import of_ratios

PARTS = ("prepare", "correctness", "tuning", "layers", "networks", "step", "geometry")
#: Failures shown of each part; the record has all.
_SHOWN = 5
_SHOWN_CASES, _SHOWN_TIMES = 14, 24
#: What names a case of times, and whose ratios are shown beside them.
_SETTING = ("job", "phase", "shape", "layout", "dtype", "launched")
_OVER = ("floor", "floor from 50 MB", "BatchNorm2d", "GroupNorm", "BN")
_WIDTH = 160


def summary(out: Path) -> str:
    """A line for each part, each target and each failure."""
    found = {part: record.read(path) for part in PARTS if (path := path_of(out, part)).is_file()}
    if not found:
        return f"no records in {out}"
    device = next(iter(found.values()))["device"]
    lines = [f"\n{device['name']}, Triton {device['triton']}"]
    for part, each in found.items():
        tail = f"; {each['skipped']}" if "skipped" in each else ""
        lines.append(f"  {part:12} {each['status']}, {each['seconds']:.0f} s, {len(each['measurements'])} rows{tail}")
    for part, of_part in (("correctness", _correctness), ("tuning", _tuning), ("geometry", _geometry)):
        if part in found:
            lines += of_part(found[part])
    for part in ("layers", "networks", "step"):
        lines += _times(found[part]) if part in found and part != "step" else []
        judged = [ratio for ratio in found.get(part, {}).get("ratios", []) if "met" in ratio]
        if judged:
            lines += [f"\n{part}, against targets", of_ratios(judged)]
    for part, each in found.items():
        failures = each["failures"]
        lines += [f"\nFAILED in {part}: {len(failures)}"] if failures else []
        lines += [f"  {why[:_WIDTH]}" for why in failures[:_SHOWN]]
    return "\n".join(lines)


def _correctness(found: Mapping[str, Any]) -> list[str]:
    checks: defaultdict[str, list[bool]] = defaultdict(list)
    for row in found["measurements"]:
        checks[row["check"]].append(row["passed"] if "passed" in row else row["outcome"] != "failed")
    lines = ["\ncorrectness"]
    lines += [f"  {name:12} {sum(passed)} of {len(passed)} passed" for name, passed in checks.items()]
    return [*lines, *(f"  {name}: {found[name]}" for name in ("tests", "agreement", "memcheck") if name in found)]


def _tuning(found: Mapping[str, Any]) -> list[str]:
    """The model's own plan of each case and the fastest, kernel by kernel."""
    cases: defaultdict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in found["measurements"]:
        cases[row["shape"], row["layout"], row["dtype"]].append(row)
    copied = found.get("copy_bytes_per_us", 0) / 1e6
    lines = [f"\ntuning: us of the plan's own kernels, and of the fastest; a copy moves {copied:.2f} TB/s"]
    for case, rows in list(cases.items())[:_SHOWN_CASES]:
        best = min(rows, key=lambda row: float(row["us"]))
        lines.append(f"  {', '.join(case):42} floor {rows[0]['floor_us']:7.1f}  {_kernels(rows[0])}")
        if best is not rows[0]:
            changed = {name: value for name, value in best["tuning"].items() if value != rows[0]["tuning"][name]}
            lines.append(f"  {'':56}  {_kernels(best)}  {changed}")
    return lines


def _kernels(row: Mapping[str, Any]) -> str:
    ours = {name.removesuffix("_kernel"): us for name, us in row["kernels"].items() if name.endswith("_kernel")}
    return f"{row['us']:7.1f} = " + " + ".join(f"{name} {us:.1f}" for name, us in ours.items())


def _times(found: Mapping[str, Any]) -> list[str]:
    """Times of each case, ways side by side, with what they are of the floor or of Batch Norm."""
    cases: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in found["measurements"]:
        setting = [str(row[name]) for name in _SETTING if name in row]
        if "way" not in row:
            setting.append(row["of"])
            cases[tuple(setting)].append(f"{row['us'] / 1e3:.2f} ms in {row['launches']:.0f} launches")
            continue
        ratios = {over: ratio[0] for over, ratio in row["ratios"].items() if over in _OVER}
        held = "".join(f", {ratio:.2f} {over}" for over, ratio in ratios.items())
        memory = f", {row['peak_bytes'] / 1e6:.0f} MB" if "images_per_second" in row and "peak_bytes" in row else ""
        cases[tuple(setting)].append(f"{row['way']} {row['ms']:.3g} ms{held}{memory}")
    return ["", *(f"  {', '.join(case)}: {'; '.join(ways)}" for case, ways in list(cases.items())[:_SHOWN_TIMES])]


def _geometry(found: Mapping[str, Any]) -> list[str]:
    """Accuracy by norm and geometry, with the epochs where they are not all."""
    rows: Sequence[Mapping[str, Any]] = found["measurements"]
    if not rows:
        return []
    geometries = list(dict.fromkeys(row["geometry"] for row in rows))
    cells = {(row["norm"], row["geometry"]): row for row in rows}
    finished = sum("finished" in row for row in rows)
    title = f"\ngeometry: accuracy in %, {found['epochs']} epochs of {found['pictures']} pictures"
    lines = [
        f"{title}; {finished} of {len(rows)} cells in {found['seconds']:.0f} s",
        "  " + " ".join(f"{name:>12}" for name in ("", *geometries)),
    ]
    for norm in dict.fromkeys(row["norm"] for row in rows):
        shown = [_cell(cells.get((norm, geometry), {}), found["epochs"]) for geometry in geometries]
        lines.append("  " + " ".join(f"{text:>12}" for text in (norm, *shown)))
    return lines


def _cell(row: Mapping[str, Any], epochs: int) -> str:
    if "accuracy" not in row:
        return "-"
    return f"{row['accuracy']:.1f}" + ("" if row["epochs"] == epochs else f" ({row['epochs']})")
