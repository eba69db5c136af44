"""Whatever file operation of a training a kill or a full disk comes at: what goes on ends as if nothing had been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import forked
from tests.training.test_segmentation import write_recipe
from tests.training.trainings import with_short_epochs


def disturb(recipe: Path, folder: Path, *disturbances: str) -> list[dict[str, object]]:
    folder.mkdir()
    done = forked.run("-m", "tests.training.operations", recipe, folder, *disturbances, timeout=3000)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for each in found:
        print(*each.values())
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [each for each in found if each["problems"]] == []
    return found


def test_some_operations(recipe, tmp_path):
    """In the making of the folder, at the first checkpoints, and past all of the first epoch."""
    some = ("kill:2", "kill:35", "kill:94", "full:36")
    assert len(disturb(with_short_epochs(recipe), tmp_path / "runs", *some)) == len(some)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["kill", "full"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_every_operation(recipe, tmp_path, kind, task):
    if task == "segmentation":
        recipe = write_recipe(tmp_path)
    found = disturb(with_short_epochs(recipe), tmp_path / "runs", kind)
    assert len(found) > 200, "the counting is broken"
