"""The command line: `python -m benchmarks SUITE | STUDY | table | figures`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks
from benchmarks import (
    data,
    decoders,
    deploy,
    deployed,
    detection_data,
    detectors,
    figures,
    layers,
    networks,
    overhead,
    record,
    samples,
    scale,
    start,
    step,
    table,
    weights,
)
from benchmarks.case import Case
from benchmarks.gpu import study as gpu
from benchmarks.runner import Outcome, run_case, summed_up
from benchmarks.text import of_outcome, of_ratios
from switchnorm.errors import InputError

#: A suite is a module with `add_arguments(parser)`, `cases(options)`, and `partial(options)`: whether these options
#: leave out or change what belongs into the record.
SUITES = {
    "layers": layers,
    "weights": weights,
    "networks": networks,
    "overhead": overhead,
    "step": step,
    "decoders": decoders,
    "data": data,
    "detection_data": detection_data,
    "detectors": detectors,
    "deploy": deploy,
}

#: A study has records of its own: a module with `add_arguments(parser)` and `run(options, arguments)`.
STUDIES = {"start": start, "samples": samples, "deployed": deployed, "gpu": gpu, "scale": scale}


def main(arguments: Sequence[str], pages_kept: bool = False) -> None:
    """Run a suite, or make table or figures; exits with 1 if a result was wrong, with 2 and one line on bad input.

    `pages_kept` is what `keep_pages` said of this process, for the record.
    """
    try:
        options = _parser().parse_args(arguments)
        if options.suite == "table":
            table.rewrite(options.page, record.RESULTS)
            return
        if options.suite == "figures":
            figures.rewrite()
            return
        if options.suite in STUDIES:
            STUDIES[options.suite].run(options, arguments)
            return
        cases = SUITES[options.suite].cases(options)
        outcomes = _run(cases)
        device = cases[0].device
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    ratios = summed_up(outcomes)
    print(f"\n{of_ratios([ratio for ratio in ratios if 'headline' in ratio])}")
    failures = [f"{outcome.case}: {name}: {why}" for outcome in outcomes for name, why in outcome.failures.items()]
    path = options.json or record.path_of(options.suite, device)
    if options.json or not (failures or SUITES[options.suite].partial(options)):
        record.write(
            path,
            record.head(arguments) | {"pages_kept": pages_kept},
            [row for outcome in outcomes for row in outcome.rows],
            ratios,
        )
        print(f"\nrecorded in {path}")
    if failures:
        print("\nwrong results, so no speeds:", *failures, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def _run(cases: Sequence[Case]) -> list[Outcome]:
    """Run cases one after another, and print each result as soon as it is there."""
    outcomes = []
    for number, case in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {case}", flush=True)
        outcomes.append(run_case(case))
        print(of_outcome(outcomes[-1]), flush=True)
    return outcomes


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m benchmarks", description=benchmarks.__doc__, allow_abbrev=False)
    suites = parser.add_subparsers(dest="suite", metavar="SUITE", required=True)
    for name, suite in SUITES.items():
        of_suite = suites.add_parser(name, description=suite.__doc__, help=suite.__doc__, allow_abbrev=False)
        of_suite.add_argument(
            "--json", type=Path, help="where the record goes (default: benchmarks/results/, for a whole run)"
        )
        suite.add_arguments(of_suite)
    of_table = suites.add_parser("table", description=table.__doc__, help=table.__doc__, allow_abbrev=False)
    of_table.add_argument("--page", type=Path, default=Path("docs/speed.md"), help="the file to rewrite")
    suites.add_parser("figures", description=figures.__doc__, help=figures.__doc__, allow_abbrev=False)
    for name, study in STUDIES.items():
        of_study = suites.add_parser(name, description=study.__doc__, help=study.__doc__, allow_abbrev=False)
        study.add_arguments(of_study)
    return parser
