"""The gpu tests as a process of their own, each result kept as it comes; also the plugin of pytest that tells them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.job import Job
from benchmarks.gpu.pool import end_with

ROOT = Path(__file__).parents[2]
#: Where the plugin writes, a line of JSON a test.
VARIABLE = "SWITCHNORM_TEST_LINES"
#: What a rehearsal tests, since the interpreter is no place for the gpu tests.
REHEARSED = ("tests/benchmarks/test_measure.py",)
_LONGEST = 600


class Tests:
    """pytest at work.

    Args:
        job: which keeps the results.
        end: of `time.monotonic`, until which `wait` waits.
    """

    def __init__(self, job: Job, end: float) -> None:
        self.job = job
        self.lines = Path(tempfile.mkdtemp(prefix="switchnorm-")) / "lines"
        self.lines.touch()
        self.read = 0
        files = REHEARSED if job.setting.rehearsing else gpu_test_files()
        selected = (
            [] if job.setting.rehearsing else ["-m", "gpu", "-n", str(job.setting.workers), "--dist", "worksteal"]
        )
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "benchmarks.gpu.tests", *selected]
        environment = {**os.environ, VARIABLE: str(self.lines)}
        # The last says to pytest's plugin that it runs in a worker, whoever's that is.
        for ours in ("SWITCHNORM_KERNEL", "TRITON_INTERPRET", "PYTEST_XDIST_WORKER"):
            environment.pop(ours, None)
        self.log = self.lines.with_name("log").open("w+")
        self.process = subprocess.Popen(
            [*command, *files],
            cwd=ROOT,
            env=environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=functools.partial(end_with, os.getpid()),
        )

    def wait(self, end: float) -> bool:
        """Keep results as they come; returns whether all came in time."""
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
            self.keep()
        ended = self.process.poll()
        self.keep()
        tests = [row for row in self.job.rows if row["check"] == "test"]
        self.job.notes["tests"] = {
            outcome: sum(row["outcome"] == outcome for row in tests) for outcome in ("passed", "failed", "skipped")
        }
        if ended is None:
            self.job.notes["tests"]["end"] = "stopped by the time"
        elif ended not in (0, 1):
            self.log.seek(0)
            said = [line.strip() for line in self.log.read().splitlines() if line.strip()]
            self.job.fail(f"pytest ended with {ended}: {' / '.join(said[-3:])}"[:_LONGEST])
        self.job.write()
        return ended is not None

    def kill(self) -> None:
        """End it; its workers end as they lose it."""
        self.process.kill()
        self.process.wait()

    def keep(self) -> None:
        """Keep the results that have come since."""
        rows = [json.loads(line) for line in self.lines.read_text().split("\n")[:-1][self.read :]]
        self.read += len(rows)
        failed = [f"{row['test']}: {row.pop('why')}" for row in rows if row["outcome"] == "failed"]
        if rows:
            self.job.add(*({"check": "test", **row} for row in rows))
        for why in failed:
            self.job.fail(why)


def gpu_test_files() -> list[str]:
    """The files that have gpu tests, so that nothing else is imported."""
    found = (path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text())
    return [str(path.relative_to(ROOT)) for path in found]


def pytest_runtest_logreport(report: Any) -> None:
    """Of pytest: write a line for a test that ended, or that failed before or after its call."""
    if "PYTEST_XDIST_WORKER" in os.environ or (report.when != "call" and report.outcome == "passed"):
        return
    row = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
    if report.outcome == "failed":
        crash = getattr(report.longrepr, "reprcrash", None)
        row["why"] = (crash.message if crash is not None else str(report.longrepr)).replace("\n", " / ")[:_LONGEST]
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps(row) + "\n")
