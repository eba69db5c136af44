"""What the page says about segmentation, before a browser sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from switchnorm.errors import InputError
from tests.report.conftest import Make
from tests.report.visits import markup


def test_what_is_absent_is_left_out(make_scenes: Make, tmp_path: Path) -> None:
    path = make_scenes("bn")
    text = markup(tmp_path, path)
    assert all(title in text for title in ("<h2>Pictures</h2>", "<h2>Class by class</h2>", "heat"))
    (path / "confusion.csv").unlink()
    assert "heat" not in markup(tmp_path, path)
    (path / "examples" / "examples.json").unlink()
    assert "<h2>Pictures</h2>" not in markup(tmp_path, path)
    (path / "classes.csv").unlink()
    assert "<h2>Class by class</h2>" not in markup(tmp_path, path)


def test_many_classes_are_folded_and_their_confusion_is_a_list(make_scenes: Make, tmp_path: Path) -> None:
    text = markup(tmp_path, make_scenes("bn", classes=41))
    best, worst, every = (text.index(words) for words in ("The 10 best", "The 10 worst", "All 39 classes</summary>"))
    assert best < worst < every
    assert text[best:worst].count("<tr>") == text[worst:every].count("<tr>") == 1 + 10
    assert "In neither truth nor prediction: class 39, class 40." in text
    assert "heat" not in text
    assert text.partition("Mistakes of bn-0</caption>")[2].partition("</table>")[0].count("<tr>") == 1 + 20


def test_a_picture_is_there_once_with_the_prediction_of_each_run(make_scenes: Make, tmp_path: Path) -> None:
    paths = {label: make_scenes(label.lower()) for label in ("BN", "SN")}
    text = markup(tmp_path, *paths.values())
    row = text.partition('<div class="scene"')[2].partition("</div>")[0].replace("\u00a0", " ")
    said = {
        label: json.loads((path / "examples" / "examples.json").read_text())["pictures"][0]
        for label, path in paths.items()
    }
    assert re.findall(r"<figcaption>(.*?)</figcaption>", row) == [
        "street", "truth",
        *(f"{label}: pixel accuracy {100 * each['accuracy']:.1f} %, mean IoU {100 * each['mean_iou']:.1f} %"
          for label, each in said.items()),
    ]  # fmt: skip
    assert text.count("data:image/jpeg") == 2
    legend = text.partition("Colours of the classes")[2].partition("</ul>")[0]
    assert re.findall(r"</svg>(.*?)</li>", legend) == ["class 0", "class 1", "class 2"]


def test_more_runs_than_fit_are_said_to_be_left_out(make_scenes: Make, tmp_path: Path) -> None:
    paths = [make_scenes("sn", folder=str(size), settings={"extra": size}) for size in range(8)]
    text = markup(tmp_path, *paths)
    assert "The predictions of 2 more runs are left out." in text
    assert text.partition('<div class="scene"')[2].partition("</div>")[0].count("<img") == 2 + 6


def test_of_several_seeds_the_first_is_shown_and_said_to_be(make_scenes: Make, tmp_path: Path) -> None:
    paths = [make_scenes("sn", seed) for seed in (0, 1)]
    said = "Of several seeds the first is shown."
    assert said not in markup(tmp_path, paths[0])
    text = markup(tmp_path, *paths)
    assert text.count(said) == 2
    assert "Each class in sn-0" in text
    assert "in sn-1" not in text


def test_hatching_is_explained_where_there_is_some(make_scenes: Make, tmp_path: Path) -> None:
    path = make_scenes("sn")
    assert "What is hatched does not count." in markup(tmp_path, path)
    for file in path.glob("examples/*.prediction.png"):
        file.with_name(file.name.replace("prediction", "truth")).write_bytes(file.read_bytes())
    assert "hatched" not in markup(tmp_path, path)


def test_hostile_words_of_segmentation_are_only_words(make_scenes: Make, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(2)>"
    path = make_scenes("sn")
    for name in ("classes.csv", "confusion.csv", "examples/examples.json"):
        file = path / name
        file.write_text(file.read_text().replace("class 1", evil))
    (path / "examples" / "examples.json").write_text(
        (path / "examples" / "examples.json").read_text().replace("street", evil)
    )
    for file in list((path / "examples").glob("street.*")):
        file.rename(file.with_name(file.name.replace("street", evil)))
    text = markup(tmp_path, path)
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(2)&gt;" in text
    assert set(re.findall(r'src="(.{5})', text)) == {"data:"}


def test_a_damaged_file_is_no_page(make_scenes: Make, tmp_path: Path) -> None:
    path = make_scenes("bn")
    (path / "confusion.csv").write_text("road,sky\n")
    with pytest.raises(InputError, match=r"confusion\.csv is damaged: expected 'truth' and the classes"):
        markup(tmp_path, path)
    assert not (tmp_path / "report.html").exists()
