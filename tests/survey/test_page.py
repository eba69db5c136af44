"""The page, in a browser."""

import re
import shutil
from pathlib import Path

import pytest

from switchnorm.data import Folder, Masks
from switchnorm.errors import InputError
from switchnorm.survey.page import write_page
from switchnorm.survey.whole import look_at
from switchnorm.tasks.classification.drawing import LabelDrawing
from switchnorm.tasks.segmentation.drawing import MaskDrawing
from tests.data.photos import truncate
from tests.report.visits import colours, contrast, visit
from tests.training.scenes import CLASSES, VOID

__all__ = ["visit"]

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page(scenes, tmp_path) -> Path:
    dataset = Masks(str(scenes), ignore=[VOID], short_sides=[32], workers=0)
    return write_page("masks", look_at(dataset), MaskDrawing(dataset), tmp_path / "out/check.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_masks_and_classes_are_shown(page, visit, scheme):
    seen = visit(page, scheme, 700)
    assert seen.complaints == []
    assert seen.requests == [page.as_uri(), *[url for url in seen.requests if url.startswith("data:")]]
    assert seen.page.locator("h1").inner_text() == "masks: nothing wrong"
    assert seen.page.locator("h2").all_inner_texts() == [
        "Findings",
        "As training sees them",
        "As they are stored: train",
        "As they are stored: val",
        "Classes",
        "Files and values",
    ]
    widths = seen.page.locator(".scene img").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert len(widths) == 6 + 6 + 3
    assert min(widths) > 0
    assert all(name in seen.page.locator(".legend").first.inner_text() for name in CLASSES)
    (paper,) = colours(seen.page, "body", "backgroundColor")
    assert all(contrast(ink, paper) >= 4.5 for ink in colours(seen.page, "p, figcaption, td, li", "color"))
    overflow = seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0


def test_names_from_outside_stay_text(photos, tmp_path, visit):
    (photos / "train/cat").rename(photos / f"train/{EVIL}")
    (photos / "val/cat").rename(photos / f"val/{EVIL}")
    shutil.copy(photos / "train/dog/0.jpg", photos / f"train/dog/{EVIL}.jpg")
    truncate(photos / "train/dog/1.jpg")
    dataset = Folder(str(photos), size=16, resize=20, workers=0, on_damaged="skip")
    page = write_page(EVIL, look_at(dataset), LabelDrawing(dataset), tmp_path / "check.html")
    seen = visit(page)
    assert seen.complaints == []
    assert seen.page.locator("figcaption", has_text=EVIL).count() > 2
    seen.page.set_viewport_size({"width": 390, "height": 800})  # where long paths of findings are broken
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert not re.search(r"<img src=x", page.read_text())


def test_a_page_of_many_large_pictures_stays_small(tmp_path):
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(40):
            path = tmp_path / "large" / split / "a" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (600, 900, 3), dtype=np.uint8)).save(path, quality=60)
    dataset = Folder(str(tmp_path / "large"), workers=0)
    page = write_page("large", look_at(dataset, limit=2), LabelDrawing(dataset), tmp_path / "check.html")
    assert page.stat().st_size < 4e6


def test_a_folder_as_output_is_refused(photos, tmp_path):
    dataset = Folder(str(photos), size=16, resize=20)
    with pytest.raises(InputError, match=r"the page is one file: give .*check\.html"):
        write_page("photos", look_at(dataset, limit=1), LabelDrawing(dataset), tmp_path)
