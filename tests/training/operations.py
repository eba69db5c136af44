"""Disturbs a training at its file operations, one after the other, and compares what then ends it: a script.

    python -m tests.training.operations RECIPE FOLDER WHAT ...

It trains FOLDER/reference, then FOLDER/other with a disturbance, and goes on with that as a user would. WHAT is
"kill:7", a SIGKILL right before operation 7; "full:7", a disk on which nothing can be written from then on; or "kill"
or "full", that at each operation in turn. A line of JSON says what every disturbance was at and led to.

An operation is whatever changes files of the run: opening for writing, renaming, linking, removing, making folders,
locking, and bringing to the disk. Between two of them nothing that stays can change but the length of a part.
"""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.training.launch import resume, start

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR
#: How a disturbed training may end: killed; in one line, or well where what failed is of no matter.
_ENDS = {"kill": (-signal.SIGKILL,), "full": (0, 2)}
#: What differs between two equal runs.
_CLOCKS = {"images_per_second", "seconds", "peak_memory_bytes", "created", "name", "command", "git"}


def main(recipe: Path, folder: Path, *disturbances: str) -> None:
    """Disturb, go on, compare, print."""
    create_dataset(**read_config(recipe).data)  # what is imported here no child has to
    torch.set_num_threads(1)
    assert in_child(lambda: train(recipe, folder / "reference")) == 0
    for each in disturbances:
        kind, _, number = each.partition(":")
        numbers = (int(number),) if number else itertools.count(1)
        for found in itertools.takewhile(bool, (try_one(recipe, folder, kind, number) for number in numbers)):
            print(json.dumps(found), flush=True)


def try_one(recipe: Path, folder: Path, kind: str, number: int) -> dict[str, Any]:
    """What a disturbance leads to; nothing if the training has no such operation."""
    reference, other, note = folder / "reference", folder / "other", folder / "operation.txt"
    for path in (other, *folder.glob(".*")):
        shutil.rmtree(path, ignore_errors=True)
    note.unlink(missing_ok=True)

    def disturbed() -> None:
        disturb(kind, number, other, note)
        train(recipe, other)

    code = in_child(disturbed)
    if not note.exists():
        return {}
    problems = [f"the disturbed one ended with {code}"] if code not in _ENDS[kind] else []
    if kind == "full":
        problems += left_behind(folder)
    begun = (other / "run.json").exists()
    if code:
        done = begun and RunFolder(other).finished()  # of which resuming says so, in a line
        code = in_child(lambda: resume(other, quiet=True) if begun else train(recipe, other))
        problems += [f"the next one ended with {code}"] if code != (2 if done else 0) else []
    problems += [*differences(reference, other), *left_behind(folder)]
    operation = note.read_text().replace(str(folder), "")
    return {"kind": kind, "number": number, "operation": operation, "resumed": begun, "problems": problems}


def train(recipe: Path, out: Path) -> None:
    """A new training."""
    start(read_config(recipe), out, default=out, command=(), quiet=True)


def in_child(do: Callable[[], Any]) -> int:
    """How a child that does something ends; it has all that is imported here."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            do()
            os._exit(0)
        except InputError as error:
            print(error, file=sys.stderr)
            os._exit(2)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def disturb(kind: str, number: int, run: Path, note: Path) -> None:
    """Disturb this process at its file operation of that number in a run, or in what becomes one."""
    seen = 0
    mine = str(run), str(run.with_name(f".{run.name}"))

    def count(what: str, path: str) -> None:
        nonlocal seen
        if not path.startswith(mine):
            return
        seen += 1
        if seen == number:
            note.write_text(f"{what} {path}")
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        if seen >= number and what not in ("os.remove", "os.rmdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES)
        if changes and isinstance(arguments[0], str | bytes | os.PathLike):
            count(event, os.path.abspath(os.fsdecode(arguments[0])))
        elif event == "fcntl.lockf":
            count(event, os.readlink(f"/proc/self/fd/{arguments[0]}"))

    sync = os.fsync

    def counted_sync(file: int) -> None:
        count("fsync", os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    os.fsync = counted_sync
    sys.addaudithook(hook)


def differences(one: Path, other: Path) -> Iterator[str]:
    """What two runs do not have in common, clocks aside."""
    files = [
        {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.parent.name != "tensorboard"}
        for run in (one, other)
    ]
    yield from (f"only one has {name}" for name in files[0] ^ files[1])
    for name in sorted(files[0] & files[1]):
        a, b = (run / name for run in (one, other))
        same = _READERS.get(a.suffix, Path.read_bytes)
        if not _equal(same(a), same(b)):
            yield f"{name} differs"


def _equal(a: Any, b: Any) -> bool:
    """Whether two contents are the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _checkpoint(path: Path) -> dict[str, Any]:
    content = torch.load(path, weights_only=True)
    return {
        key: content.get(key) for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
    }


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return [{key: each for key, each in row.items() if key not in _CLOCKS} for row in csv.DictReader(lines)]


def _record(path: Path) -> dict[str, Any]:
    return {key: each for key, each in json.loads(path.read_text()).items() if key not in _CLOCKS}


_READERS: dict[str, Callable[[Path], Any]] = {".ckpt": _checkpoint, ".csv": _table, ".json": _record}


def left_behind(folder: Path) -> Iterator[str]:
    """Hidden files and folders in a folder of finished runs."""
    yield from (f"left {path.relative_to(folder)}" for path in folder.rglob(".*"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
