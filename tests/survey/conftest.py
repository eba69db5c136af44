from pathlib import Path

import pytest

from tests.data.photos import write_tree
from tests.training.scenes import write_scenes


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders of classes, which a test may change."""
    return write_tree(tmp_path / "photos")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Pictures with masks, which a test may change."""
    return write_scenes(tmp_path / "scenes", {"train": 6, "val": 3})
