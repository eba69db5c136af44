"""What the page says about detection, and what a browser makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from switchnorm.report import write
from tests.report.conftest import Make, record
from tests.report.visits import Open, markup


def test_what_is_absent_is_left_out(make_detector: Make, tmp_path: Path) -> None:
    path = make_detector("bn")
    titles = ("Pictures", "Precision over recall", "Class by class")
    text = markup(tmp_path, path)
    assert all(f"<h2>{title}</h2>" in text for title in titles)
    for file, title in zip(("examples/examples.json", "curves.csv", "classes.csv"), titles, strict=True):
        (path / file).unlink()
        text = markup(tmp_path, path)
        assert f"<h2>{title}</h2>" not in text
    assert "<h2>Sizes of objects</h2>" in text


def test_sizes_are_of_runs_that_count_and_the_best_of_each_data(make_detector: Make, tmp_path: Path) -> None:
    good = make_detector("bn", 0, final=0.9)
    bad = record(make_detector("bn", 1, final=0.5), status="diverged", diverged={"epoch": 4})
    other = make_detector("sn", 0, final=0.6, settings={"data.split": "test"})
    text = markup(tmp_path, good, bad, other).partition("<h2>Sizes of objects</h2>")[2]
    assert re.findall(r"<td[^>]*>([\d.]+)</td>", text)[0] == "90.00"
    assert 'class="best"' not in text.partition("</table>")[0], "each is alone on its data"
    text = markup(tmp_path, good, make_detector("gn", 0, final=0.6)).partition("<h2>Sizes of objects</h2>")[2]
    assert 'class="best"' in text.partition("</table>")[0]


def test_a_picture_is_there_with_the_detections_of_each_run(make_detector: Make, tmp_path: Path) -> None:
    text = markup(tmp_path, make_detector("bn"), make_detector("gn+ws"))
    row = text.partition('<div class="scene"')[2].partition("</div>")[0].replace("\u00a0", " ")
    assert re.findall(r"<figcaption>(.*?)</figcaption>", row) == [
        "street: 4 objects", "BN: 3 found, 1 missed, 2 wrong", "GN + WS: 3 found, 1 missed, 5 wrong",
    ]  # fmt: skip
    assert "After epoch 6. Drawn are detections of a score of 50\u00a0% and more" in text


def test_more_runs_than_fit_are_said_to_be_left_out(make_detector: Make, tmp_path: Path) -> None:
    paths = [make_detector("bn", folder=str(size), settings={"extra": size}) for size in range(8)]
    text = markup(tmp_path, *paths)
    assert "The detections of 2 more runs are left out." in text
    assert text.partition('<div class="scene"')[2].partition("</div>")[0].count("<img") == 1 + 6


def test_columns_of_masks_are_there_where_masks_are(make_detector: Make, tmp_path: Path) -> None:
    plain = markup(tmp_path, make_detector("bn"))
    masks = markup(tmp_path, make_detector("sn", masks=True))
    for words in ("Mask AP50 %", "Masks at overlap 0.75"):
        assert (words in plain, words in masks) == (False, True)
    assert "Boxes at overlap 0.50 to 0.95" in plain


def test_classes_without_objects_are_named_and_many_are_folded(make_detector: Make, tmp_path: Path) -> None:
    assert "No test picture has objects of: class 2." in markup(tmp_path, make_detector("bn"))
    text = markup(tmp_path, make_detector("sn", classes=41))
    best, worst, every = (text.index(words) for words in ("The 10 best", "The 10 worst", "All 40 classes</summary>"))
    assert best < worst < every
    assert "Colours of the classes" not in text, "40 of them, whose names are on every box"


def test_what_nothing_measured_has_no_column(make_detector: Make, tmp_path: Path) -> None:
    text = markup(tmp_path, make_detector("bn"))
    table = text.partition("Box AP and AR after the last epoch")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="col">(.*?)</th>', table) == ["Normalizer", "AP %", "AP50 %", "AP small %", "AR %"]
    results = text.partition("<h2>Results</h2>")[2].partition("</table>")[0]
    assert "AP50 %" in results
    assert "AP75 %" not in results


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_has_no_complaint_and_fetches_nothing(
    make_detector: Make, visit: Open, tmp_path: Path, scheme: str
) -> None:
    report = write([make_detector("bn"), make_detector("sn", masks=True)], tmp_path / "report.html")
    seen = visit(report, scheme)
    for fold in ("Over epochs", "SN, class by class"):
        seen.page.locator("summary", has_text=fold).first.click()
    seen.page.locator(".plot[aria-busy]").first.wait_for(state="detached")
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 1280
