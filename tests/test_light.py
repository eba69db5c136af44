"""What is answered without waiting for torch, and how soon."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

#: Runs a command line, then fails if torch was imported on the way.
PROGRAM = """
import sys
from switchnorm.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stopped:
    code = stopped.code
heavy = sorted({"torch", "torchvision", "pytorch_lightning", "plotly"} & sys.modules.keys())
sys.exit(f"imported {heavy}" if heavy else code)
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--help",), "commands:"),
        (("train", "--help"), "RECIPE is a YAML file"),
        (("eval", "--help"), "of segmentation"),
        (("train", "digits/resnet9", "--epocs", "3"), "flag '--epocs' is unknown; did you mean '--epochs'?"),
        (("train", "digits/resnet9", "--epochs", "0"), "train.epochs must be at least 1, got 0"),
        (("train", "cifar10/resnet20", "--data.rot", "x"), "flag '--data.rot' is unknown; did you mean '--data.root'?"),
        (("train", "imagenet/resnet18", "--data.sise", "x"), "did you mean '--data.size'?"),
        (("train", "camvid/small", "--segmentation.flop", "x"), "did you mean '--segmentation.flip'?"),
        (("train", "bccd/small", "--detection.exampels", "3"), "did you mean '--detection.examples'?"),
        (("train", "coco/mask_resnet50_fpn_gn", "--model.norms.body", "snn"), "norm 'snn' is unknown; did you mean"),
        (("train", "coco/mask_resnet50_fpn_gn", "--train.freeze", "3"), "train.freeze"),
        (("train", "bccd/smal"), "did you mean 'bccd/small'?"),
        (("train", "cifar10/resnet21"), "did you mean 'cifar10/resnet20'?"),
        (("eval", "--weights", "x", "--model", "resnet18", "--data", "cifar"), "did you mean 'cifar10'?"),
        (("eval", "run", "--chekpoint", "best"), "did you mean '--checkpoint'?"),
        (("predict", "run", "x.png", "--scale", "3"), "did you mean '--scales'?"),
        (("train", "digits/resnet9", "--norm", "snn"), "norm 'snn' is unknown; did you mean 'sn'?"),
        (("study", "geometry", "--norms", "xx"), "norm 'xx' is unknown; choose from bn, gn, in, ln, sn, ssn"),
        (("study", "compare", "--recipe", "digits/resnet9", "--variants", "bm"), "did you mean 'bn'?"),
        (("study", "geometri"), "did you mean 'geometry'?"),
        (("study", "geometry", "--epocs", "3"), "flag '--epocs' is unknown; did you mean '--epochs'?"),
        (("study", "geometry", "--recipe", "digits/resnet9", "--epochs", "0"), "train.epochs must be at least 1"),
        (("study", "geometry", "--recipe", "digits/resnet8"), "did you mean 'digits/resnet9'?"),
    ],
)
def test_help_and_wrong_flags(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert message in found.stdout + found.stderr
    assert "imported" not in found.stderr, found.stderr


#: Python alone, with modules of its own: .15 s of CPU time on two throttled cores of an AMD EPYC, at their quickest.
YARDSTICK = ("-S", "-c", "import argparse, asyncio, dataclasses, http.client, inspect, json, pathlib, typing")


def seconds(*commands: Sequence[str]) -> list[float]:
    """CPU times of commands of Python, where the yardstick takes more than .15 s as if it took that.

    Of each the quickest of five, taken in turns: other processes take from the clock, and hardly from this.
    """
    # Bytecode is written by the first, as it is where something is installed.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def taken(command: Sequence[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], capture_output=True, timeout=120, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    rounds = [[taken(command) for command in (YARDSTICK, *commands)] for _ in range(5)]
    yardstick, *found = map(min, zip(*rounds, strict=True))
    return [each / max(1, yardstick / 0.15) for each in found]


def test_help_takes_less_than_a_third_of_a_second_and_a_wrong_flag_half_a_second() -> None:
    helped, wrong = seconds(
        ("-m", "switchnorm", "--help"),
        ("-m", "switchnorm", "train", "cifar10/resnet20", "--data.rot", "x"),
    )
    assert helped < 0.3
    assert wrong < 0.5


def test_the_import_takes_a_tenth_of_a_second_at_most() -> None:
    imported, nothing = seconds(("-c", "import switchnorm"), ("-c", "pass"))
    assert imported - nothing < 0.1
