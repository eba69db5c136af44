"""The figures of the documentation, drawn from the records in docs/results: `python -m benchmarks figures`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from switchnorm.layers import color_of

RESULTS, FIGURES = Path("docs/results"), Path("docs/figures")
#: Text and lines that are read on white and on black.
GREY, FAINT = "#808080", "#80808050"
WIDTH, HEIGHT = 640, 340
#: Of the axes: left, top, right, bottom.
BOX = (56, 46, 520, 290)


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: behind its last point.
        color: "#rrggbb".
        points: (x, y).
        dashed: whether the line is.
        marks: whether its points are seen.
    """

    name: str
    color: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    marks: bool = True


def color(norm: str) -> str:
    """The colour of a normalizer, as reports have it: with weight standardization that of the same without."""
    return color_of(norm.partition("+")[0]) or GREY


def draw(results: Path = RESULTS) -> dict[str, str]:
    """The text of each figure's SVG file, by its name."""
    record = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    return {
        "samples": samples(record["samples"]),
        "statistics": statistics(record["samples"]),
        "geometry": geometry(record["geometry_cpu"]),
        "camvid": dots(
            record["camvid_pretrained"], "Mean IoU on CamVid from a pretrained network, 2 pictures per GPU, %"
        ),
        "bccd": dots(record["bccd_lite0"], "Box AP on BCCD from a pretrained network, 2 pictures per GPU, %"),
    }


def rewrite(results: Path = RESULTS, figures: Path = FIGURES) -> None:
    """Write every figure."""
    for name, text in draw(results).items():
        (figures / f"{name}.svg").write_text(text, encoding="utf-8")


def samples(record: Mapping[str, Any]) -> str:
    """Accuracy with the statistics of so many samples."""
    running, *rows = record["rows"]
    ends = (rows[0]["samples"], rows[-1]["samples"])
    return chart(
        "Top-1 of one network by the samples that Batch Norm's statistics are from, %",
        "samples in the batch",
        [
            Line("of the batch", color("bn"), [(row["samples"], row["top1"]) for row in rows]),
            Line("running ones", GREY, [(x, running["top1"]) for x in ends], dashed=True, marks=False),
        ],
    )


def statistics(record: Mapping[str, Any]) -> str:
    """How far the statistics of so many samples are from the running ones."""
    rows = record["rows"][1:]
    return chart(
        "Error of a batch's mean and deviation, in deviations of the channel",
        "samples in the batch",
        [
            Line("mean", "#2b6cb8", [(row["samples"], row["mean"]) for row in rows]),
            Line("deviation", "#d97706", [(row["samples"], row["deviation"]) for row in rows]),
        ],
        digits=2,
    )


def geometry(record: Mapping[str, Any]) -> str:
    """Accuracy of each normalizer, trained with so many samples per GPU."""
    lines: dict[str, Line] = {}
    for cell in record["tables"][0]["cells"]:
        line = lines.setdefault(cell["row"], Line(cell["row"], color(cell["norm"]), [], dashed="+" in cell["norm"]))
        line.points.append((cell["samples"], 100 * cell["mean"]))  # type: ignore[attr-defined]
    return chart("CIFAR-10 accuracy after 3 epochs of training, %", "samples per GPU", list(lines.values()))


def dots(record: Mapping[str, Any], title: str) -> str:
    """A row for each variant: the mean of its seeds, and a small mark for each of these."""
    rows = sorted(record["tables"][0]["rows"], key=lambda row: -row["mean"])
    score = {"mean IoU": "mean_iou", "AP": "ap"}[record["tables"][0]["score"]]
    values = [100 * seed[score] for row in rows for seed in row["seeds"]]
    low, high = 5 * math.floor(min(values) / 5 - 0.2), 5 * math.ceil(max(values) / 5)
    left, top, step = 190, 50, 34

    def across(value: float) -> float:
        return left + (WIDTH - left - 60) * (value - low) / (high - low)

    bottom = top + step * len(rows)
    parts = [_text(WIDTH / 2, 24, title, "middle", bold=True)]
    for tick in range(low, high + 1, 5):
        parts += [
            _rule(across(tick), top - 8, across(tick), bottom),
            _text(across(tick), bottom + 20, f"{tick}", "middle"),
        ]
    for number, row in enumerate(rows):
        middle, mean = top + step * number + 10, across(100 * row["mean"])
        paint = GREY if "frozen" in row["name"] else color(row["norm"])
        parts.append(_text(left - 10, middle + 5, row["name"], "end"))
        seeds = [across(100 * seed[score]) for seed in row["seeds"]]
        parts.append(
            f'<line x1="{min(seeds):.1f}" y1="{middle}" x2="{max(seeds):.1f}" y2="{middle}" stroke="{paint}" '
            'stroke-width="4" stroke-opacity="0.5"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{middle}" r="3" fill="{paint}"/>' for x in seeds]
        fill = "none" if "+" in row["norm"] else paint
        parts.append(f'<circle cx="{mean:.1f}" cy="{middle}" r="7" fill="{fill}" stroke="{paint}" stroke-width="2"/>')
        parts.append(_text(WIDTH - 8, middle + 5, f"{100 * row['mean']:.1f}", "end"))
    return _svg(bottom + 34, title, parts)


def chart(title: str, below: str, lines: Sequence[Line], digits: int = 0) -> str:
    """Lines over numbers of samples, whose axis is logarithmic."""
    left, top, right, bottom = BOX
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    step = _step(max(ys) - min(0 if digits else min(ys), min(ys)))
    low, high = step * math.floor(min(ys) / step), step * math.ceil(max(ys) / step)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        along = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        return left + (right - left) * along, bottom - (bottom - top) * (y - low) / (high - low)

    parts = [_text(WIDTH / 2, 24, title, "middle", bold=True), _text((left + right) / 2, bottom + 42, below, "middle")]
    for number in range(round((high - low) / step) + 1):
        value = low + step * number
        y = place((xs[0], value))[1]
        parts += [_rule(left, y, right, y), _text(left - 8, y + 5, f"{value:.{digits}f}", "end")]
    parts += [_text(place((x, low))[0], bottom + 20, f"{x:g}", "middle") for x in xs]
    for line in lines:
        points = " ".join("{:.1f},{:.1f}".format(*place(point)) for point in sorted(line.points))
        dash = ' stroke-dasharray="6 5"' if line.dashed else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="2.5"{dash}/>')
        if line.marks:
            for x, y in map(place, line.points):
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{line.color}"/>')
    ends = sorted((place(max(line.points))[1], line) for line in lines)
    for y, (_, line) in zip(_apart([y for y, _ in ends], 17), ends, strict=True):
        parts.append(_text(right + 12, y + 5, line.name, "start", line.color))
    return _svg(HEIGHT, title, parts)


def _step(span: float) -> float:
    """The step of an axis of about five parts: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 6)


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Places in their order, moved down as far as they would overlap, then up by half of all that."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    shift = max((after - before for after, before in zip(moved, places, strict=True)), default=0.0) / 2
    return [place - shift for place in moved]


def _svg(height: float, title: str, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" font-size="14"'
    fonts = ' font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">'
    return "\n".join([head + fonts, f"<title>{escape(title)}</title>", *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, color: str = GREY, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{FAINT}"/>'
