"""The command line: `python -m benchmarks SUITE`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from benchmarks import data
from benchmarks.measure import environment

#: A suite is a module with `add_arguments(parser)` and `run(options) -> list[Comparison]`.
SUITES = {"data": data}

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> None:
    """Run a suite, print a line per comparison, and write the record."""
    options = _parser().parse_args(arguments)
    summaries = [comparison.summary() for comparison in SUITES[options.suite].run(options)]
    for summary in summaries:
        print("{name}: {ours_speed:,} {unit} against {theirs_speed:,} {unit} of {theirs}".format(**summary))
        print("  ratio {ratio} (deciles {ratio_deciles}, {rounds} rounds); target {target}".format(**summary))
    record = {"command": _command(arguments), **environment(), "comparisons": summaries}
    path = options.json or RESULTS / f"{options.suite}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=sys.modules["benchmarks"].__doc__)
    suites = parser.add_subparsers(dest="suite", required=True)
    for name, suite in SUITES.items():
        of_suite = suites.add_parser(name, description=suite.__doc__, help=suite.__doc__)
        of_suite.add_argument(
            "--json", type=Path, help=f"where the record goes (default: benchmarks/results/{name}.json)"
        )
        suite.add_arguments(of_suite)
    return parser


def _command(arguments: list[str]) -> str:
    """The command as anybody may read it: paths that start at a root or a home become PATH."""
    shown = [re.sub(r"(^|=)[/~].*", r"\1PATH", argument) for argument in arguments]
    return " ".join(["python -m benchmarks", *shown])


if __name__ == "__main__":
    main(sys.argv[1:])
