"""Whatever file operation of a training a kill or a full disk comes at: what goes on ends as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.test_segmentation import write_recipe


def disturb(kind: str, recipe: Path, folder: Path, *numbers: int) -> list[dict[str, object]]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.operations", kind, recipe, folder, *map(str, numbers)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for each in found:
        print(*each.values())
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [each for each in found if each["problems"]] == []
    return found


#: In the making of the folder, at tables, at the first checkpoints, at the record, and past all of the first epoch.
@pytest.mark.parametrize(("kind", "numbers"), [("kill", (2, 12, 35, 50, 94)), ("full", (10, 36, 60))])
def test_some_operations(recipe, tmp_path, kind, numbers):
    assert len(disturb(kind, recipe, tmp_path / "runs", *numbers)) == len(numbers)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["kill", "full"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_every_operation(recipe, tmp_path, kind, task):
    if task == "segmentation":
        recipe = write_recipe(tmp_path)
    found = disturb(kind, recipe, tmp_path / "runs")
    assert len(found) > 70, "the counting is broken"
