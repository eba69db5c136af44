"""Runs the tests of the folder `interpreted`, in which kernels run on the CPU, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"
FILES = sorted(FOLDER.glob("test_*.py"))

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this is that process")


def interpret(path: Path, marked: str) -> None:
    """Run the tests of a file that are marked so."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", marked, str(path)]
    run = subprocess.run(
        command, cwd=FOLDER.parents[3], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kernels_in_the_interpreter(path: Path) -> None:
    interpret(path, "not sweep")


@pytest.mark.sweep
@pytest.mark.parametrize(
    "path", [path for path in FILES if "mark.sweep" in path.read_text()], ids=lambda path: path.stem
)
def test_many_more_examples_in_the_interpreter(path: Path) -> None:
    interpret(path, "sweep")
