"""What leaving costs: the accuracy of a classifier as it was trained, folded, and exported in 32, 16 and 8 bits.

Needs a run, or a folder that `switchnorm push --to` has written, and labelled pictures in a folder per class. Every row
is written as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import switchnorm
from benchmarks.record import head
from switchnorm.deploy.net import Net
from switchnorm.deploy.runtimes.network import NetworkRuntime
from switchnorm.errors import InputError

RECORD = Path("docs/results/deployed.json")


class Pictures(NamedTuple):
    """Labelled pictures: their files, and the place of each one's class."""

    files: list[Path]
    labels: list[int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    parser.add_argument("network", help="a run's folder, or one that was pushed")
    parser.add_argument("--test", type=Path, required=True, help="a folder per class, sorted as the classes are")
    parser.add_argument("--calibration", type=Path, required=True, help="likewise: other pictures, which choose scales")
    parser.add_argument("--count", type=int, default=200, help="pictures of the calibration (default: 200)")
    parser.add_argument("--pictures", type=int, help="tested at most, evenly over the folder (default: all)")
    parser.add_argument("--json", type=Path, default=RECORD, help=f"the record (default: {RECORD})")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measure each way to run the network, print it, and add it to the record."""
    torch.set_num_threads(1)
    net = switchnorm.load(options.network)
    test = _pictures(options.test, options.pictures)
    scales = _pictures(options.calibration, options.count).files
    rows: list[dict[str, Any]] = []
    name = Path(options.network).name
    with tempfile.TemporaryDirectory() as folder:
        for way, opened in _ways(net, Path(folder), scales).items():
            ready, size = opened()
            row = {"network": name, "way": way, "bytes": size, **_accuracy(ready, test)}
            rows.append(row)
            print(json.dumps(row), flush=True)
            _record(options.json, arguments, rows)


def _record(path: Path, arguments: Sequence[str], rows: list[dict[str, Any]]) -> None:
    """Rows of other networks stay."""
    own = rows[0]["network"]
    known = json.loads(path.read_text())["networks"] if path.is_file() else []
    made = {**head(arguments), "rows": rows}
    others = [each for each in known if each["rows"][0]["network"] != own]
    path.write_text(json.dumps({"networks": [*others, made]}, indent=1) + "\n")


def _ways(net: Net, folder: Path, scales: list[Path]) -> dict[str, Callable[[], tuple[Net, int]]]:
    """For each way what makes it ready, with the size of its file; 0 where it has none."""
    runtime = net.runtime
    if not isinstance(runtime, NetworkRuntime):
        raise InputError(f"{net.source} is no run and no network; expected one that has not been exported")
    network, about = runtime.network, runtime.description

    def exported(name: str, **arguments: Any) -> Callable[[], tuple[Net, int]]:
        def open_file() -> tuple[Net, int]:
            made = switchnorm.export(network, folder / name, description=about, warn=False, **arguments)
            return switchnorm.load(made.path), made.bytes

        return open_file

    return {
        "as trained": lambda: (net, 0),
        "folded": lambda: (Net(NetworkRuntime(switchnorm.fold(network), about), "folded"), 0),
        "onnx": exported("float.onnx"),
        "onnx, half": exported("half.onnx", half=True),
        "onnx, int8": exported("int8.onnx", int8=scales),
        "openvino, int8": exported("int8.xml", int8=scales),
    }


def _accuracy(net: Net, test: Pictures) -> dict[str, Any]:
    """Top-1 and top-5, in [0, 1], and of how many pictures."""
    top1 = top5 = 0
    place = {name: label for label, name in enumerate(net.classes)}
    for file, label in zip(test.files, test.labels, strict=True):
        found = [place[name] for name in net.predict(file, top=5).classes]
        top1 += found[0] == label
        top5 += label in found
    count = len(test.files)
    return {"top1": round(top1 / count, 4), "top5": round(top5 / count, 4), "pictures": count}


def _pictures(folder: Path, most: int | None) -> Pictures:
    """Pictures of a folder per class, evenly chosen where there are more than are wanted."""
    classes = sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    found = [(file, label) for label, each in enumerate(classes) for file in sorted(each.iterdir())]
    if not found:
        raise InputError(f"{str(folder)!r} has no folders with pictures; expected one for each class")
    step = 1 if most is None else max(1, len(found) // most)
    chosen = found[::step][:most]
    return Pictures([file for file, _ in chosen], [label for _, label in chosen])
