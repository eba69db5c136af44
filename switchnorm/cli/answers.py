"""How a segmentation network is asked about pictures: flags that `eval` and `predict` share."""

from __future__ import annotations

import argparse


def add_answering(command: argparse.ArgumentParser) -> None:
    """Add the flags to a command."""
    command.add_argument(
        "--scales",
        type=int,
        nargs="+",
        metavar="SIDE",
        help="of segmentation: short sides in pixels of the sizes over which answers are averaged",
    )
    command.add_argument("--flip", action="store_true", help="of segmentation: average over mirrored pictures too")
    command.add_argument(
        "--window", type=int, metavar="SIDE", help="of segmentation: slide windows of so many pixels over each picture"
    )


def answering_flags(options: argparse.Namespace) -> list[str]:
    """What the command line said of it, as flags of the configuration."""
    flags = [] if options.scales is None else [f"--data.test_sides={options.scales}"]
    flags += ["--segmentation.flip=true"] if options.flip else []
    return flags if options.window is None else [*flags, f"--segmentation.window={options.window}"]
