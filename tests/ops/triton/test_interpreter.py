"""Runs the tests of the folder `interpreted`, in which kernels run on the CPU, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this is that process")


@pytest.mark.parametrize("marked", ["not sweep", pytest.param("sweep", marks=pytest.mark.sweep)])
def test_kernels_in_the_interpreter(marked: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", marked, str(FOLDER)]
    run = subprocess.run(
        command, cwd=FOLDER.parents[3], env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
