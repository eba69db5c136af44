"""`switchnorm inspect` and `switchnorm report`: looking at runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.cli.command import Commands
from switchnorm.errors import InputError
from switchnorm.runs.reading import run_of
from switchnorm.text import say

if TYPE_CHECKING:
    from switchnorm.surgery import LayerImportance


def add_inspect(commands: Commands) -> None:
    """Add the command `inspect`."""
    inspect = commands.add(
        "inspect", _inspect, "print what every layer chose: the importance of each statistic", flags=("--help",)
    )
    inspect.add_argument("path", type=Path, metavar="RUN_OR_CHECKPOINT", help="a run folder or a checkpoint file")


def add_report(commands: Commands) -> None:
    """Add the command `report`."""
    report = commands.add("report", _report, "write one self-contained HTML page about runs", flags=("--out",))
    report.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    report.add_argument("--out", type=Path, metavar="FILE", help="the page (report.html in the run's folder, or here)")


def _inspect(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from switchnorm.layers import all_norms
    from switchnorm.report import print_importance
    from switchnorm.training.launch import inspect

    layers = inspect(options.path)
    if not layers:
        mixing = " or ".join(norm.name for norm in all_norms() if norm.mixes)
        raise InputError(
            f"{str(options.path)!r} has no switchable layer; expected a run or checkpoint with norm {mixing}"
        )
    print_importance(layers)
    batch = sum(_is_constant(layer) for layer in layers)
    share = f"{batch} of {len(layers)} ({batch / len(layers):.0%}) chose batch statistics alone"
    say(f"fold: {share}; {_saving(options.path)}")


def _saving(path: Path) -> str:
    """What folding the network of a run or of a checkpoint saves, or why that is not known."""
    from switchnorm.data.preparation import Crop
    from switchnorm.deploy.networks import network_of
    from switchnorm.surgery import plan_fold

    if run_of(path) is None:
        return "what folding saves is not known, for weights alone do not say of which network they are"
    try:
        network, about = network_of(path, "last")
    except InputError as error:
        return f"what folding saves is not known, for its network cannot be made here ({error})"
    rule = getattr(about.preparation, "rule", None)
    return plan_fold(network, rule.size if isinstance(rule, Crop) else None).saving


def _is_constant(layer: LayerImportance) -> bool:
    """Whether a layer normalizes by running statistics alone."""
    return all(
        share == 0 or name == "batch"
        for shares in (layer.mean, layer.var)
        for name, share in zip(layer.statistics, shares, strict=True)
    )


def _report(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from switchnorm.report import print_results, write

    out = options.out or (options.runs[0] / "report.html" if len(options.runs) == 1 else Path("report.html"))
    page = write(options.runs, out)
    print_results(options.runs)
    say(f"report: {page}")
