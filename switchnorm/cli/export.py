"""`switchnorm export`."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from switchnorm.cli.command import Commands
from switchnorm.deploy.formats import ARGUMENTS, FORMATS, find_format, format_of
from switchnorm.errors import InputError
from switchnorm.runs.reading import run_of
from switchnorm.text import say

_FLAGS = (
    *("--format", "--out", "--size", "--dynamic", "--half", "--int8", "--raw", "--checkpoint", "--force", "--plugins"),
)


def add(commands: Commands) -> None:
    """Add the command."""
    export = commands.add(
        "export", _run, "write a run's network as a file that other runtimes run", _help(), flags=_FLAGS
    )
    export.usage = (
        "switchnorm export RUN [--format F] [--out FILE] [--size S] [--dynamic D] [--half | --int8 PICTURE ...]"
    )
    export.add_argument(
        "what", metavar="RUN", help="a run's folder, a checkpoint of one, or what `switchnorm push` wrote"
    )
    export.add_argument("--format", metavar="F", help=f"{', '.join(FORMATS)} (that of --out, or onnx)")
    export.add_argument(
        "--out", type=Path, metavar="FILE", help="the file to write (RUN/NAME with the format's suffix)"
    )
    export.add_argument(
        "--size", type=int, nargs="+", metavar="S", help="of pictures: a side, or height and width (as evaluated)"
    )
    export.add_argument(
        "--dynamic",
        metavar="D",
        help="what stays open: of batch, height and width, with commas; or none (batch, and all where pictures have "
        "many sizes)",
    )
    export.add_argument("--half", action="store_true", help="keep 16-bit floating point numbers")
    export.add_argument(
        "--int8", nargs="+", metavar="PICTURE", help="compute in 8 bits, with scales by these files or folders"
    )
    export.add_argument("--raw", action="store_true", help="take normalized float32 images in place of 8-bit pixels")
    export.add_argument("--checkpoint", metavar="C", help="of RUN: last, best, epoch:N or a file (best)")
    export.add_argument("--force", action="store_true", help="replace FILE where it exists")


def _help() -> str:
    lines = []
    for each in FORMATS.values():
        able = ", ".join(f"--{argument}" for argument in each.arguments) or "nothing else"
        lines += textwrap.wrap(
            f"{each.summary}; takes {able}",
            120,
            initial_indent=f"  {each.name:<12} {each.suffix:<13} ",
            subsequent_indent=" " * 29,
        )
    table = "\n".join(lines)
    return f"""Write the network of a run as a file that other runtimes run.

  switchnorm export runs/cifar10-resnet20-ssn
  switchnorm export runs/cifar10-resnet20-ssn --format openvino --int8 pictures/
  switchnorm export runs/camvid-small-sn --out street.onnx --size 360 480 --half
  switchnorm predict runs/cifar10-resnet20-ssn/cifar10-resnet20-ssn.onnx cat.jpg

What of the normalizers is constant is folded into the layers beside them. The file takes 8-bit pictures, red, green and
blue, subtracts the mean itself, and says of itself what it is: the task, the classes, how pictures are resized. It is
run in its own runtime at three shapes, and kept where it computes what the network does.

{table}"""


def _run(options: argparse.Namespace, rest: Sequence[str]) -> None:
    sides = options.size
    if sides is not None and (len(sides) > 2 or min(sides) < 1):
        raise InputError(f"--size takes a side in pixels, or height and width, got {' '.join(map(str, sides))}")
    path = _path(options)
    # Imported this late because torch takes seconds: wrong flags have been reported by now.
    from switchnorm.deploy.exporting import export

    found = export(
        options.what,
        path,
        options.format,
        size=None if sides is None else sides[0] if len(sides) == 1 else tuple(sides),
        dynamic=None if options.dynamic is None else [] if options.dynamic == "none" else options.dynamic,
        raw=options.raw,
        half=options.half,
        int8=options.int8,
        checkpoint=options.checkpoint,
        force=options.force,
        warn=False,
    )
    say(str(found))


def _path(options: argparse.Namespace) -> Path:
    """The file to write, with all that is wrong about the flags said before torch is imported."""
    if options.out is not None:
        path: Path = options.out
        chosen = format_of(path, options.format)
    else:
        chosen = find_format(options.format or next(iter(FORMATS)))
        place = Path(options.what)
        folder = run_of(place) or (place if place.is_dir() else Path())
        path = folder / f"{folder.resolve().name}{chosen.suffix}"
    given = {"half": options.half, "int8": options.int8, "raw": options.raw, "dynamic": options.dynamic}
    chosen.check_arguments([name for name in ARGUMENTS if given[name] and given[name] != "none"])
    chosen.require(chosen.packages, f"format {chosen.name!r}")
    return path
