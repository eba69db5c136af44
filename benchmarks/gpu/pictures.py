"""CIFAR-10 small enough to travel: the first pictures of each official file, lossless.

    python -m benchmarks.gpu.pictures pack SOURCE FOLDER [--train 3500] [--test 4500]

packs the binary version in SOURCE; the study takes either that or FOLDER as `--data`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from switchnorm.data import Cifar10
from switchnorm.errors import InputError

#: The official files, and bytes of one of their records: a label, and planes of red, green and blue.
_VERSION = Cifar10.versions[0]
_FILES = (*_VERSION.train, *_VERSION.test)
_RECORD = 1 + 3 * 32 * 32
#: Pictures side by side in a sheet, whose side may have 16,383 pixels.
_COLUMNS = 64


def pack(source: Path, folder: Path, train: int, test: int) -> None:
    """Write so many pictures of each training file, and of the test file, as one sheet each with their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        first = records(_official(source) / name)[: test if name in _VERSION.test else train]
        pictures = np.zeros((-(-len(first) // _COLUMNS) * _COLUMNS, 3, 32, 32), np.uint8)
        pictures[: len(first)] = first[:, 1:].reshape(-1, 3, 32, 32)
        sheet = pictures.reshape(-1, _COLUMNS, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(-1, 32 * _COLUMNS, 3)
        Image.fromarray(sheet).save(folder / f"{name}.webp", lossless=True, quality=60, method=4)
        np.save(folder / f"{name}.npy", first[:, 0])


def unpack(folder: Path, target: Path) -> None:
    """Write the files of the binary version, with fewer pictures than the official ones have."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        labels = np.load(folder / f"{name}.npy")
        sheet = np.asarray(Image.open(folder / f"{name}.webp").convert("RGB"))
        pictures = sheet.reshape(-1, 32, _COLUMNS, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3 * 32 * 32)
        np.concatenate((labels[:, None], pictures[: len(labels)]), 1).astype(np.uint8).tofile(target / name)


def locate(data: Path, target: Path) -> Path:
    """The folder of the binary version: in `data`, or unpacked from it into `target`.

    Raises:
        InputError: neither is there.
    """
    if all((_official(data) / name).is_file() for name in _FILES):
        return _official(data)
    if not all((data / f"{name}.webp").is_file() for name in _FILES):
        raise InputError(f"--data {data}: no CIFAR-10 there, neither its binary version nor what pictures.py packs")
    unpack(data, target)
    return target


def _official(root: Path) -> Path:
    """The folder itself, or that of the published name in it."""
    inner = root / _VERSION.folder
    return inner if inner.is_dir() else root


def records(path: Path) -> np.ndarray:
    """A file of the binary version, (n, 3073) uint8."""
    return np.fromfile(path, np.uint8).reshape(-1, _RECORD)


def main(arguments: list[str]) -> None:
    """Pack."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.pictures", description=__doc__)
    parser.add_argument("action", choices=("pack",))
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=3500, help="pictures of each of the five training files")
    parser.add_argument("--test", type=int, default=4500)
    options = parser.parse_args(arguments)
    pack(options.source, options.folder, options.train, options.test)


if __name__ == "__main__":
    main(sys.argv[1:])
