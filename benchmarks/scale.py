"""What work costs as it grows: time and memory against pictures, classes, parameters, processes, and runs in a report.

Every point is measured in a process of its own, forked from one that has imported everything. Times are seconds of its
processor, which other work on the machine does not change much; memory is what the process held at most beyond what it
began with, as looked at every few milliseconds. Rows are written as soon as they are there, and rows that the record
has are not measured again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import os
import resource
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import switchnorm
from benchmarks.record import head
from switchnorm.config.recipe import read_config
from switchnorm.data import Folder
from switchnorm.data.counter import permutation
from switchnorm.recipes import find_recipe
from switchnorm.report import write
from switchnorm.tasks.segmentation.confusion import ConfusionMatrix
from switchnorm.training.launch import start
from switchnorm.training.sharding import units

RECORD = Path("docs/results/scale.json")
_LOOK_SECONDS = 0.003
#: Exponents that far from 1 are named.
_LINEAR = 0.15
_FACTS = dict[str, float]


class Growth(NamedTuple):
    """Something that grows.

    Args:
        what: it is, and with what.
        sizes: at which it is measured.
        prepare: makes what a measurement needs in a folder, for a size; is not measured.
        work: what is measured, with the folder and the size; returns further facts.
    """

    what: str
    sizes: Sequence[int]
    prepare: Callable[[Path, int], object]
    work: Callable[[Path, int], _FACTS | None]


def _picture() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


def _folder(place: Path, count: int) -> None:
    (place / "one.jpg").write_bytes(_picture())
    for number in range(count):
        file = place / f"data/train/{number % 100:03d}/{number:07d}.jpg"
        if number < 100:
            file.parent.mkdir(parents=True)
        os.link(place / "one.jpg", file)


def _shards(place: Path, count: int) -> None:
    (place / "data/train").mkdir(parents=True)
    content = _picture()
    for first in range(0, count, 1000):
        with tarfile.open(place / f"data/train/{first:07d}.tar", "w") as archive:
            for number in range(first, min(first + 1000, count)):
                member = tarfile.TarInfo(f"{number % 100:03d}/{number:07d}.jpg")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _list_pictures(place: Path, count: int) -> None:
    data = Folder(str(place / "data"), workers=0)
    data.prepare()
    data.fingerprint()
    assert data.train_size == count


def _read_epoch(place: Path, count: int) -> None:
    data = Folder(str(place / "data"), size=32, resize=32, workers=0)
    for _ in data.train_batches(batch_size=50, seed=0, epochs=1):
        pass


def _order(place: Path, count: int) -> None:
    permutation(0, 0, count)


def _steps(network: nn.Module, classes: int, samples: int = 16, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    images, labels = torch.randn(samples, 3, 32, 32), torch.randint(classes, (samples,))
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()


def _classes(place: Path, classes: int) -> None:
    _steps(switchnorm.create_model("cifar_resnet20", num_classes=classes, norm="ssn"), classes)


def _confusion(place: Path, classes: int) -> None:
    matrix = ConfusionMatrix(classes)
    labels = torch.randint(classes, (8, 256, 256))
    matrix.update(labels, labels)
    assert float(matrix.compute().sum()) == labels.numel()


def _depth(place: Path, depth: int) -> _FACTS:
    network = switchnorm.create_model(f"cifar_resnet{depth}", num_classes=10, norm="ssn")
    _steps(network, 10)
    return {"parameters": sum(p.numel() for p in network.parameters())}


def _processes(sharded: bool) -> Callable[[Path, int], _FACTS]:
    def work(place: Path, world: int) -> _FACTS:
        """Three steps of 64 pictures, shared out; facts are of the process that holds or computes most."""
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        members = [
            context.Process(target=_member, args=(place, rank, world, sharded, results)) for rank in range(world)
        ]
        for member in members:
            member.start()
        found = [results.get(timeout=500) for _ in members]
        for member in members:
            member.join()
        return {name: max(each[name] for each in found) for name in found[0]}

    return work


def _member(place: Path, rank: int, world: int, sharded: bool, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{place / 'store'}", rank=rank, world_size=world)
    torch.manual_seed(0)
    network = switchnorm.create_model("cifar_resnet110", num_classes=10, norm="ssn")
    if sharded:
        mesh = init_device_mesh("cpu", (world,))
        for unit in units(network):
            fully_shard(unit, mesh=mesh)
        trained: nn.Module = fully_shard(network, mesh=mesh)
    else:
        trained = DistributedDataParallel(network)
        trained.broadcast_buffers = False  # as in training
    optimizer = torch.optim.SGD(trained.parameters(), 0.01, momentum=0.9)
    images, labels = torch.randn(64 // world, 3, 32, 32), torch.randint(10, (64 // world,))
    facts: _FACTS = {}
    with _measured(facts):
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(trained(images), labels).backward()
            optimizer.step()
    kept = [*trained.parameters(), *(p.grad for p in trained.parameters() if p.grad is not None)]
    kept += [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    bytes_kept = sum(getattr(t, "to_local", lambda t=t: t)().nbytes for t in kept)
    results.put({**facts, "state_bytes": bytes_kept})
    results.close()
    results.join_thread()
    dist.destroy_process_group()


def _runs(place: Path, count: int) -> None:
    recipe = find_recipe("digits/resnet9")
    flags = ("--epochs=2", "--batch-size=512", "--norm=ssn", "--device=cpu", "--train.loggers=[]")
    first = place / "runs/seed0"
    start(read_config(recipe, flags), first, default=first, command=("benchmarks",), quiet=True)
    shutil.rmtree(first / "checkpoints")
    for seed in range(1, count):
        path = place / f"runs/seed{seed}"
        shutil.copytree(first, path)
        for name, old, new in (
            ("config.yaml", "seed: 0", f"seed: {seed}"),
            ("run.json", '"seed": 0', f'"seed": {seed}'),
        ):
            text = (path / name).read_text()
            assert old in text
            (path / name).write_text(text.replace(old, new))


def _report(place: Path, count: int) -> _FACTS:
    page = write(sorted((place / "runs").iterdir()), place / "report.html")
    return {"page_bytes": page.stat().st_size}


def _nothing(place: Path, size: int) -> None:
    pass


GROWTHS = (
    Growth("listing pictures in folders", (1000, 4000, 16000), _folder, _list_pictures),
    Growth("listing pictures in shards", (1000, 4000, 16000), _shards, _list_pictures),
    Growth("reading an epoch from folders", (500, 1000, 2000), _folder, _read_epoch),
    Growth("reading an epoch from shards", (500, 1000, 2000), _shards, _read_epoch),
    Growth("order of an epoch, pictures", (10**5, 10**6, 10**7), _nothing, _order),
    Growth("three steps, classes", (10, 100, 1000, 10000), _nothing, _classes),
    Growth("confusion matrix, classes", (16, 64, 250), _nothing, _confusion),
    Growth("three steps, depth of the network", (20, 56, 110), _nothing, _depth),
    Growth("three steps of 64 pictures, processes with whole networks", (1, 2, 4), _nothing, _processes(sharded=False)),
    Growth("three steps of 64 pictures, processes with shares (FSDP2)", (1, 2, 4), _nothing, _processes(sharded=True)),
    Growth("a report, runs", (1, 10, 100), _runs, _report),
)


@contextmanager
def _measured(facts: _FACTS) -> Iterator[None]:
    """Processor seconds and the most memory beyond what was held, of this process."""

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def look() -> None:
        while not done.wait(_LOOK_SECONDS):
            peaks[0] = max(peaks[0], held())

    before, done = held(), threading.Event()
    peaks = [before]
    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    began = time.process_time()
    yield
    facts["seconds"] = time.process_time() - began
    peaks[0] = max(peaks[0], held())
    done.set()
    watch.join()
    facts["bytes"] = peaks[0] - before


def _point(growth: Growth, size: int) -> _FACTS:
    """Measure one point, in a process of its own."""
    context = multiprocessing.get_context("fork")

    def run(place: Path, measure: bool) -> _FACTS:
        receiver, sender = context.Pipe(duplex=False)

        def child() -> None:
            torch.set_num_threads(1)
            facts: _FACTS = {}
            if measure:
                with _measured(facts):
                    more = growth.work(place, size)
                facts |= more or {}
            else:
                growth.prepare(place, size)
            sender.send(facts)

        process = context.Process(target=child)
        process.start()
        sender.close()
        facts: _FACTS = receiver.recv()
        process.join()
        return facts

    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), measure=False)
        return run(Path(folder), measure=True)


def exponent(rows: Sequence[dict[str, Any]], fact: str) -> float | None:
    """By which power a fact grows between the two largest sizes; None where it is 0."""
    a, b = sorted(rows, key=lambda row: row["size"])[-2:]
    if not a.get(fact, 0) > 0 or not b.get(fact, 0) > 0:
        return None
    grown: float = math.log(b[fact] / a[fact]) / math.log(b["size"] / a["size"])
    return grown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The study's flags."""
    parser.add_argument("--json", type=Path, help=f"where the record goes ({RECORD})")
    parser.add_argument("--only", metavar="TEXT", default="", help="measure what is called so alone")
    parser.add_argument("--most", type=int, metavar="N", help="leave out larger sizes")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measure what the record lacks, and print how each fact grows."""
    path = options.json or RECORD
    record = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    record |= head(arguments)
    rows: list[dict[str, Any]] = record["rows"]
    for growth in (each for each in GROWTHS if options.only in each.what):
        for size in (size for size in growth.sizes if options.most is None or size <= options.most):
            if any((row["what"], row["size"]) == (growth.what, size) for row in rows):
                continue
            facts = {name: float(f"{value:.4g}") for name, value in _point(growth, size).items()}
            rows.append({"what": growth.what, "size": size, **facts})
            _write(path, record)
            print(f"{growth.what} {size}: {facts}", flush=True)
        print(*_grown(growth.what, [row for row in rows if row["what"] == growth.what]), sep="\n", flush=True)


def _write(path: Path, record: dict[str, Any]) -> None:
    """Write the record, a row a line."""
    head = json.dumps({name: value for name, value in record.items() if name != "rows"}, indent=1).removesuffix("\n}")
    rows = ",\n".join(f"  {json.dumps(row)}" for row in record["rows"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head},\n "rows": [\n{rows}\n ]\n}}\n')


def _grown(what: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    if len(rows) < 2:
        return
    for fact in (name for name in rows[0] if name not in ("what", "size", "parameters")):
        grown = exponent(rows, fact)
        if grown is not None:
            kind = "in proportion" if abs(grown - 1) <= _LINEAR else f"as the size to the power {grown:.2f}"
            yield f"{what}: {fact} grow {kind}"
