"""Flags that several suites have, and their checks."""

from __future__ import annotations

import argparse
import re

import torch

from benchmarks.shapes import Shape
from switchnorm.errors import InputError


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")


def check_device(device: str | None) -> str:
    """The device to measure on; raise `InputError` if it is not there."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise InputError("--device cuda: PyTorch finds no CUDA device here; leave --device out to measure the CPU")
    return device or ("cuda" if there else "cpu")


def check_compiler(device: str) -> None:
    """Raise `InputError` where torch.compile fails on a device: after hours of measuring it would be too late."""
    from switchnorm.training.failures import compiling  # which imports Lightning

    with compiling("leave what is compiled out"):
        torch.compile(torch.sin)(torch.zeros(2, device=device))


def parse_shape(text: str) -> Shape:
    """Read "16x256x56x56"."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write four numbers as 16x256x56x56")
    return tuple(map(int, text.split("x")))
