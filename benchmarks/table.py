"""The table of docs/speed.md, made from the records: no record, no row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import CPU_TIME, TIME
from benchmarks.record import read
from benchmarks.text import quantity_of, target
from switchnorm.errors import InputError

START, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
SUITES = ("layers", "overhead", "weights", "networks", "step")
#: What has a table of its own, with a column for each runtime.
DEPLOY = "deploy"
RUNTIMES = ("onnxruntime", "openvino", "eager")
LAYOUTS = ("contiguous", "channels last")

Ratios = Sequence[Mapping[str, Any]]


def rewrite(page: Path, results: Path) -> None:
    """Replace what stands between the markers.

    Raises:
        InputError: no such file, or one without the markers.
    """
    if not page.is_file():
        raise InputError(f"{page} does not exist; name the file with --page")
    before, start, rest = page.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise InputError(f"{page} has no place for the table; put the lines {START} and {END} where it belongs")
    page.write_text("".join((before, START, "\n", tables(results), END, after)))


def tables(results: Path) -> str:
    """A table for the CPU, one for the GPU, and one of exported networks, as far as there are records."""
    found = [
        table(records)
        for device in ("", "-cuda")
        if (records := [read(path) for suite in SUITES if (path := results / f"{suite}{device}.json").is_file()])
    ]
    path = results / f"{DEPLOY}.json"
    return "".join([*found, *([deployed(read(path))] if path.is_file() else [])])


def deployed(record: Mapping[str, Any]) -> str:
    """CPU time of folded networks over Batch Norm's, a row for each network and setting, runtimes side by side."""
    rows: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for entry in record["ratios"]:
        if entry["quantity"] == CPU_TIME:
            limit = f" (at most {entry['at_most']:.2f})" if "at_most" in entry else ""
            missed = "" if entry.get("met", True) else " **missed**"
            rows[(entry["network"], entry["of"])][entry["runtime"]] = f"{entry['ratio']:.2f}{limit}{missed}"
    lines = [f"| folded, over {_over(record)} | {' | '.join(RUNTIMES)} |", "|---|---|---|---|"]
    for (network, name), cells in rows.items():
        lines.append(f"| {network}, {name} | {' | '.join(cells.get(runtime, '') for runtime in RUNTIMES)} |")
    return "\n".join(lines) + "\n\n"


def _over(record: Mapping[str, Any]) -> str:
    return next((entry["over"] for entry in record["ratios"]), "")


def table(records: Sequence[dict[str, Any]]) -> str:
    """The headline ratios of records from one machine, a row each, layouts side by side."""
    rows: defaultdict[tuple[str, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for entry in _headlines(records):
        rows[(_name(entry), entry["over"])][entry["layout"]] = entry
    lines = [f"| {_machine(records)} | times that of | {' | '.join(LAYOUTS)} | target |", "|---|---|---|---|---|"]
    for (name, over), found in rows.items():
        cells = [_cell(found[layout]) if layout in found else "" for layout in LAYOUTS]
        bounds = dict.fromkeys(target(found[layout]) for layout in LAYOUTS if layout in found)
        lines.append(f"| {name} | {over} | {' | '.join(cells)} | {', '.join(bounds)} |")
    return "\n".join(lines) + "\n\n"


def _headlines(records: Sequence[dict[str, Any]]) -> Ratios:
    return [entry for record in records for entry in record["ratios"] if entry.get("headline")]


def _name(entry: Mapping[str, Any]) -> str:
    """What is timed. Layers go without their job and usual phase, and float32 goes without saying."""
    parts = [entry["of"]]
    if entry["job"] != "layer":
        parts.append(f"{entry['job']}, {entry['phase']}")
    elif entry["phase"] != "forward + backward":
        parts.append(entry["phase"])
    if "batch" in entry:
        parts.append(f"batch {entry['batch']}")
    if entry["dtype"] != "float32":
        parts.append(entry["dtype"])
    if entry["quantity"] != TIME:
        parts.append(quantity_of(entry))
    return ", ".join(parts)


def _cell(entry: Mapping[str, Any]) -> str:
    text = f"{entry['ratio']:.2f} ({entry['low']:.2f}–{entry['high']:.2f})"
    if entry["low"] == entry["high"]:
        text = f"{entry['ratio']:.2f}"
    return text if entry.get("met", True) else f"{text} **missed**"


def _machine(records: Sequence[dict[str, Any]]) -> str:
    first = records[0]
    where = first["gpus"][0] if "gpus" in first else f"{first['cpu']}, {first['threads']} threads"
    return f"{where}, torch {first['versions']['torch']}"
