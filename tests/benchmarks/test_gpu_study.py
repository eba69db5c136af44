"""The study for a borrowed GPU: rehearsed whole, killed in the middle, and with parts that hang or fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import record
from benchmarks.gpu import job, pictures, pool, requirements, study, summary, tuning
from benchmarks.gpu.job import Job, Part
from switchnorm.data import Cifar10
from switchnorm.errors import InputError
from switchnorm.ops.kernels.triton import tuning as tables
from switchnorm.ops.kernels.triton.cut import Shape
from switchnorm.ops.kernels.triton.device import H200

ROOT = Path(__file__).parents[2]
FILES = (*Cifar10.versions[0].train, *Cifar10.versions[0].test)
PARTS = set(study.NAMES)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A folder with files as CIFAR-10's binary version has them, of few pictures of noise."""
    folder = tmp_path / "official"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in FILES:
        pixels = generator.integers(0, 256, (16, 3072), np.uint8)
        np.concatenate((np.arange(16, dtype=np.uint8)[:, None] % 10, pixels), 1).tofile(folder / name)
    return folder


def start(out: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks", "gpu", "--rehearse", "--out", str(out), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def records(out: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}


def test_a_rehearsal_has_every_part(tmp_path: Path, official: Path) -> None:
    pictures.pack(official, tmp_path / "pack", 16, 16)
    out = tmp_path / "out"
    process = start(out, "--budget", "800", "--data", str(tmp_path / "pack"))
    printed, _ = process.communicate(timeout=820)
    found = records(out)
    assert found.keys() == PARTS, printed
    for name, of_part in found.items():
        assert of_part["status"] == "complete", (name, of_part["status"], printed)
        assert of_part["failures"] == []
        assert of_part["measurements"], name
        assert of_part["device"]["name"] == "rehearsal"
        assert of_part["versions"]["torch"]
    assert {row["check"] for row in found["correctness"]["measurements"]} == {
        "agreement",
        "race",
        "counters",
        "memcheck",
        "test",
    }
    assert [row["epochs"] for row in found["geometry"]["measurements"]] == [1, 1]
    assert process.returncode == 0
    assert len(list(out.iterdir())) <= 8
    assert (out / study.TABLE).read_text().strip() in printed


def test_a_kill_in_the_middle_leaves_records_and_no_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out, "--budget", "600", "--parts", "prepare", "correctness", "tuning")
    wait_for(lambda: len(records(out).get("correctness", {}).get("measurements", [])) > 0)
    ours = processes(str(out))
    assert process.pid in ours
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not processes(str(out)))
    found = records(out)
    assert found["correctness"]["status"] == "running"
    assert found["correctness"]["measurements"][0]["passed"]
    shown = summary.summary(out)
    assert "correctness  running" in shown
    assert "agreement" in shown


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def processes(argument: str) -> list[int]:
    """Those that run with an argument, or were forked from one that does."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += [int(folder.name)] if argument.encode() in arguments else []
    return found


def options(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    study.add_arguments(parser)
    return parser.parse_args(["--rehearse", *arguments])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the parts of the study, which the process itself may then run."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    def use(*parts: Part) -> None:
        monkeypatch.setattr(study, "PARTS", parts)
        monkeypatch.setattr(summary, "PARTS", tuple(part.name for part in parts))

    return use


def ends(of: Job) -> bool:
    of.add({"check": "agreement", "passed": True})
    return True


def hangs(of: Job) -> bool:
    of.add({"check": "agreement", "passed": True})
    time.sleep(600)
    return True


def raises(of: Job) -> bool:
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")


def dies(of: Job) -> bool:
    of.add({"check": "agreement", "passed": True})
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def test_a_part_that_hangs_fails_or_dies_costs_no_other(
    tmp_path: Path, alone: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [Part(name, 1, run) for name, run in (("a", raises), ("b", dies), ("c", hangs), ("d", ends))]
    alone(*parts)
    given = options("--out", str(tmp_path), "--budget", "12")
    given.parts = ["a", "b", "c", "d"]
    began = time.monotonic()
    with pytest.raises(SystemExit, match="1"):
        study.run(given, [])
    assert time.monotonic() - began < 13
    found = records(tmp_path)
    assert found["a"]["status"] == "failed"
    assert found["a"]["failures"] == ["RuntimeError: CUDA error: an illegal memory access was encountered"]
    assert found["b"]["status"] == f"ended with {-signal.SIGKILL}"
    assert found["c"]["status"] == "killed, for its time was up"
    assert found["d"]["status"] == "complete"
    assert all(found[name]["measurements"] for name in "bcd")
    assert "FAILED in a: 1" in capfd.readouterr().out


def test_nothing_asks_for_cuda_before_processes_are_forked() -> None:
    """One that has been forked from a process that did cannot use CUDA."""
    code = """if True:
        import torch
        def asked(*arguments): raise AssertionError("asked for CUDA")
        torch._C._cuda_getDeviceCount = torch._C._cuda_init = asked
        from benchmarks import command
        """
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_time_that_a_part_leaves_is_the_others() -> None:
    parts = [Part("a", 3, ends), Part("b", 1, ends)]
    now = time.monotonic()
    assert study._deadline(parts, now + 100) - now == pytest.approx(75, abs=0.1)
    assert study._deadline(parts, now + 100, 2) - now == pytest.approx(100, abs=0.1)
    assert study._deadline(parts[1:], now + 100) - now == pytest.approx(100, abs=0.1)


def test_what_cannot_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for arguments, said in (
        ((), "--rehearse needs --out"),
        (("--out", str(tmp_path), "--budget", "0"), "--budget must be more than 0"),
        (("--out", str(tmp_path), "--workers", "0"), "--workers must be 1 or more"),
        (("--show",), "--show needs --out"),
        (("--out", str(tmp_path), "--install"), "--install needs --show"),
    ):
        with pytest.raises(InputError, match=said):
            study.run(options(*arguments), [])
    given = options("--out", str(tmp_path))
    given.rehearse = False
    with pytest.raises(InputError, match="TRITON_INTERPRET=1 is for --rehearse"):
        study.run(given, [])
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(study, "describe", raises)
    with pytest.raises(InputError, match="no usable CUDA device"):
        study.run(given, [])
    assert not list(tmp_path.iterdir())


def test_all_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(requirements, "COMPILERS", ("no-such-compiler",))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    requirements.check()  # as the interpreter compiles nothing
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setitem(requirements.PACKAGES, "no_such_module", "no-such-package")
    monkeypatch.setattr(requirements, "TRIED", ("json", "other_missing_module"))
    with pytest.raises(SystemExit, match="2"):
        requirements.check()
    lacking = "no-such-package, other_missing_module, a C compiler (no-such-compiler)"
    assert capsys.readouterr().err == f"benchmarks: gpu: this machine lacks {lacking}; install that first\n"


def test_pictures_travel_unchanged(tmp_path: Path, official: Path) -> None:
    pictures.pack(official, tmp_path / "pack", 7, 5)
    found = pictures.locate(tmp_path / "pack", tmp_path / "unpacked")
    for name in FILES:
        count = 5 if name in Cifar10.versions[0].test else 7
        np.testing.assert_array_equal(pictures.records(found / name), pictures.records(official / name)[:count])
    assert pictures.locate(official, tmp_path / "nowhere") == official
    train, test = Cifar10(root=str(found)).samples
    assert (len(train), len(test)) == (35, 5)
    with pytest.raises(InputError, match="no CIFAR-10 there"):
        pictures.locate(tmp_path, tmp_path / "nowhere")


def halved(number: int) -> float:
    if number == 3:
        time.sleep(600)
    return 1 / (number - 1)


def test_workers_tell_results_and_errors_until_the_deadline() -> None:
    began = time.monotonic()
    found = sorted(pool.work([0, 1, 2, 3], halved, 2, began + 2))
    assert time.monotonic() - began < 10
    assert found == [
        pool.Done(0, -1.0, ""),
        pool.Done(1, None, "ZeroDivisionError: division by zero"),
        pool.Done(2, 1.0, ""),
    ]


def test_a_record_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = job.Setting(tmp_path, "cpu", record.head(["gpu"]), None, 1)
    monkeypatch.setattr(record, "environment", raises)  # which begins to use CUDA, and a part may still have to fork
    of = Job("layers", setting, time.monotonic() + 10)
    of.add({"case": 1})
    of.fail("wrong")
    (found,) = records(tmp_path).values()
    assert found["measurements"] == [{"case": 1}]
    assert found["failures"] == ["wrong"]
    assert found["command"] == "python -m benchmarks gpu"
    assert [path.name for path in tmp_path.iterdir()] == ["layers.json"]


def row(us: float, programs: int, size: int, itemsize: int = 2) -> dict[str, Any]:
    tuning = {"elements": 4096, "row": 32, "warps": 4, "programs": programs, "stages": 3}
    return {"us": us, "tuning": tuning, "maps": {"channels_last": True, "itemsize": itemsize, "size": size}}


def test_a_table_prefers_what_is_worth_it() -> None:
    rows = [row(10, 4, 49), row(9.8, 3, 49), row(9, 4, 196), row(8, 3, 196), row(7, 2, 196), row(5, 4, 49, 4)]
    found = tuning.fastest(rows)
    assert {what: each.programs for what, each in found.items()} == {
        tables.Class(True, 2, 49): 4,
        tables.Class(True, 2, None): 2,
        tables.Class(True, 4, None): 4,
    }


def test_a_record_becomes_the_package_s_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FOLDER", tmp_path / "tuned")
    device = {"device": {"name": "NVIDIA Z9", "triton": "3.6.0"}}
    setting = job.Setting(tmp_path, "cpu", record.head([]) | device, None, 1)
    of = Job("tuning", setting, time.monotonic() + 10)
    given = options("--out", str(tmp_path), "--show", "--install")
    of.write()
    with pytest.raises(InputError, match="has no tunings"):
        study.run(given, [])
    of.notes["tunings"] = [{**row(1, 3, 49)["maps"], **row(1, 3, 49)["tuning"]}]
    of.write()
    study.run(given, [])
    other = H200._replace(name="NVIDIA Z9")
    assert tables.tuning_for(Shape(32, 64, 49, True, 2), other) == tuple(row(1, 3, 49)["tuning"].values())
    assert "triton 3.6.0" in (tmp_path / "tuned" / "nvidia-z9.json").read_text()
