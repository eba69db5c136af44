"""Segmentation in the report: its files, its classes and its pictures, before a browser sees them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from switchnorm.report.parts import parts
from switchnorm.tasks.segmentation.report.tables import best_first, class_table, mistake_table, mistakes, side_by_side

from switchnorm.errors import InputError
from switchnorm.report import load_run, write
from switchnorm.tasks.segmentation.files import ClassScore, Confusion, read_classes, read_confusion, read_examples
from tests.report import scenes
from tests.report.conftest import EPOCHS, SCENE_LAYERS, Make

ROAD, SKY, POLE = ClassScore("road", 0.9, 0.95, 800), ClassScore("sky", 0.5, 1.0, 199), ClassScore("pole", 0.0, 0.0, 1)
NEVER = ClassScore("bus", None, None, 0)


def page(tmp_path: Path, *paths: Path) -> str:
    """The page without its styles and scripts."""
    text = write(paths, tmp_path / "report.html").read_text()
    return re.sub(r"<(style|script)[ >].*?</\1>", "", text, flags=re.DOTALL)


class TestFiles:
    def test_classes_are_those_after_the_last_epoch(self, make_scenes: Make) -> None:
        found = read_classes(make_scenes("sn"))
        # Stripes of 16 columns, predicted a column too far to the right; the last of the third is void.
        assert [(each.name, each.iou, each.accuracy, each.pixels) for each in found] == [
            ("class 0", round(16 / 17, 6), 1.0, 2 * 30 * 16),
            ("class 1", round(15 / 17, 6), round(15 / 16, 6), 2 * 30 * 16),
            ("class 2", round(14 / 15, 6), round(14 / 15, 6), 2 * 30 * 15),
            ("class 3", None, None, 0),
        ]

    def test_confusion_is_by_truth_and_prediction(self, make_scenes: Make) -> None:
        found = read_confusion(make_scenes("sn"))
        assert found is not None
        assert found.names == tuple(f"class {k}" for k in range(4))
        assert found.counts == ((960, 0, 0, 0), (60, 900, 0, 0), (0, 60, 840, 0), (0, 0, 0, 0))

    def test_examples_hold_the_files_pictures(self, make_scenes: Make) -> None:
        path = make_scenes("sn")
        found = read_examples(path)
        assert found is not None
        assert (found.epoch, list(found.colours)) == (scenes.EPOCHS[-1], [f"class {k}" for k in range(4)])
        assert [each.name for each in found.pictures] == ["street", "square"]
        example = found.pictures[0]
        assert example.accuracy == pytest.approx(45 / 47)
        assert (example.truth.width, example.truth.height) == (48, 30)
        assert (example.truth.labels, example.prediction.labels) == ((0, 1, 2, 255), (0, 1, 2))
        head, _, content = example.picture.uri.partition(",")
        assert head == "data:image/jpeg;base64"
        assert base64.b64decode(content) == (path / "examples" / "street.jpg").read_bytes()

    def test_what_is_absent_is_left_out(self, make_scenes: Make, tmp_path: Path) -> None:
        path = make_scenes("bn")
        text = page(tmp_path, path)
        assert all(title in text for title in ("<h2>Pictures</h2>", "<h2>Class by class</h2>", "heat"))
        (path / "confusion.csv").unlink()
        assert "heat" not in page(tmp_path, path)
        (path / "examples" / "examples.json").unlink()
        assert "<h2>Pictures</h2>" not in page(tmp_path, path)
        (path / "classes.csv").unlink()
        assert "<h2>Class by class</h2>" not in page(tmp_path, path)

    def test_an_empty_table_of_classes_is_none(self, make_scenes: Make) -> None:
        path = make_scenes("bn")
        (path / "classes.csv").write_text("epoch,class,iou,accuracy,pixels\n")
        assert read_classes(path) == ()


CLASSES, CONFUSION, EXAMPLES = "classes.csv", "confusion.csv", "examples/examples.json"
GOOD = {"epoch": 1, "classes": [], "pictures": [{"name": "street", "accuracy": 1, "mean_iou": 1}]}
TWICE = {"name": "a", "color": "#000000"}
HEADER = "epoch,class,iou,accuracy,pixels\n"
DAMAGE: dict[str, tuple[str, str | bytes | None, str]] = {
    "classes without a column": (CLASSES, "epoch,class\n", "must name the column 'iou'"),
    "no pixels": (CLASSES, HEADER + "0,road,,,\n", "line 2: expected a number for both epoch and pixels"),
    "a percentage": (CLASSES, HEADER + "0,road,54,0.5,3\n", "line 2: iou is 54, expected a fraction from 0 to 1"),
    "a class twice": (CLASSES, HEADER + "0,a,,,3\n0,a,,,3\n", "line 3: class 'a' comes twice in an epoch"),
    "an empty matrix": (CONFUSION, "", "expected a line of class names"),
    "no header": (CONFUSION, "road,sky\nroad,1\n", "expected 'truth' and the classes"),
    "a class short": (CONFUSION, "truth,road,sky\nroad,1,2\n", "then a line for each of them in order"),
    "a count short": (CONFUSION, "truth,road,sky\nroad,1\nsky,1,2\n", "line 2: expected 2 counts of pixels"),
    "a share": (CONFUSION, "truth,road,sky\nroad,1,2\nsky,0.5,2\n", "line 3: expected 2 counts of pixels"),
    "not JSON": (EXAMPLES, "{", "expected a run's test pictures as JSON"),
    "no pictures": (EXAMPLES, "{}", "expected epoch, classes with colours, and pictures with scores"),
    "a name for a number": (EXAMPLES, json.dumps(GOOD | {"epoch": "x"}), "expected epoch, classes"),
    "a file elsewhere": (EXAMPLES, json.dumps(GOOD | {"pictures": [{"name": "../a"}]}), "'../a' is no name"),
    "no colour": (EXAMPLES, json.dumps(GOOD | {"classes": [{"name": "a", "color": "red"}]}), "'red' is no colour"),
    "a colour twice": (EXAMPLES, json.dumps(GOOD | {"classes": [TWICE, TWICE]}), "two classes have the same name"),
    "a picture that is gone": ("examples/street.jpg", None, "street.jpg is missing, but examples.json lists it"),
    "half a picture": ("examples/street.truth.png", b"\x89PNG\r\n\x1a\n\x00", "cannot be read as a picture"),
    "another kind of file": ("examples/street.jpg", "<svg onload='alert(1)'/>", "cannot be read as a picture"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_line(
    make_scenes: Make, tmp_path: Path, name: str, content: str | bytes | None, message: str
) -> None:
    path = make_scenes("bn")
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        write([path], tmp_path / "report.html")
    assert message in str(error.value)
    assert str(path / name.partition("/")[0]) in str(error.value)
    assert "\n" not in str(error.value)


class TestTables:
    def test_a_class_with_its_colour_bar_and_share(self) -> None:
        table = class_table([ROAD, POLE, NEVER], {"road": "#112233"}, "all", 1_000_000)
        assert [[cell.text for cell in row] for row in table.rows] == [
            ["road", "90.00", "95.00", "0.08"], ["pole", "0.00", "0.00", "< 0.01"], ["bus", "–", "–", "0.00"],
        ]  # fmt: skip
        assert [(row[0].colour, row[1].share) for row in table.rows] == [("#112233", 0.9), (None, 0.0), (None, None)]

    def test_the_best_class_comes_first_and_those_without_a_score_apart(self) -> None:
        other = (ClassScore("road", 0.1, 0.1, 800), ClassScore("sky", 0.6, 1.0, 199), POLE, NEVER)
        assert best_first({"SN": (POLE, SKY, NEVER, ROAD)}) == (["road", "sky", "pole"], ["bus"])
        assert best_first({"SN": (POLE, SKY, NEVER, ROAD), "BN": other})[0] == ["sky", "road", "pole"]

    def test_runs_side_by_side_with_the_best_of_each_class_strong(self) -> None:
        other = (ClassScore("road", 0.1, 0.1, 800), ClassScore("sky", 0.6, 1.0, 199), ClassScore("pole", None, None, 1))
        table = side_by_side({"SN": (ROAD, SKY, POLE), "BN": other}, ["road", "sky", "pole"], {}, "all")
        assert table.columns == ("Class", "Pixels %", "SN IoU %", "BN IoU %")
        assert [[cell.text for cell in row[1:]] for row in table.rows] == [
            ["80.00", "90.00", "10.00"], ["19.90", "50.00", "60.00"], ["0.10", "0.00", "–"],
        ]  # fmt: skip
        assert [[cell.strong for cell in row[2:]] for row in table.rows] == [
            [True, False],
            [False, True],
            [False, False],  # nothing found is no best
        ]

    def test_mistakes_by_their_pixels(self) -> None:
        confusion = Confusion(("a", "b", "c"), ((90, 10, 0), (5, 0, 15), (0, 0, 0)))
        third, sixth = pytest.approx(1 / 3), pytest.approx(1 / 6)
        expected = [("b", "c", 15, 0.75, 0.5), ("a", "b", 10, 0.1, third), ("b", "a", 5, 0.25, sixth)]
        assert mistakes(confusion) == expected
        table = mistake_table(confusion, {"c": "#000000"}, "all")
        assert [cell.text for cell in table.rows[0]] == ["b", "c", "75.0", "50.0"]
        assert table.rows[0][1].colour == "#000000"
        assert mistakes(Confusion(("a",), ((3,),))) == []


class TestPage:
    def test_many_classes_are_folded_and_their_confusion_is_a_list(self, make_scenes: Make, tmp_path: Path) -> None:
        text = page(tmp_path, make_scenes("bn", classes=41))
        best, worst, every = (
            text.index(words) for words in ("The 10 best", "The 10 worst", "All 39 classes</summary>")
        )
        assert best < worst < every
        assert text[best:worst].count("<tr>") == text[worst:every].count("<tr>") == 1 + 10
        assert "In neither truth nor prediction: class 39, class 40." in text
        assert "heat" not in text
        assert text.partition("Mistakes of bn-0</caption>")[2].partition("</table>")[0].count("<tr>") == 1 + 20

    def test_a_picture_is_there_once_with_the_prediction_of_each_run(self, make_scenes: Make, tmp_path: Path) -> None:
        paths = {label: make_scenes(label.lower()) for label in ("BN", "SN")}
        text = page(tmp_path, *paths.values())
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

    def test_more_runs_than_fit_are_said_to_be_left_out(self, make_scenes: Make, tmp_path: Path) -> None:
        paths = [make_scenes("sn", folder=str(size), settings={"extra": size}) for size in range(8)]
        text = page(tmp_path, *paths)
        assert "The predictions of 2 more runs are left out." in text
        assert text.partition('<div class="scene"')[2].partition("</div>")[0].count("<img") == 2 + 6

    def test_of_several_seeds_the_first_is_shown_and_said_to_be(self, make_scenes: Make, tmp_path: Path) -> None:
        paths = [make_scenes("sn", seed) for seed in (0, 1)]
        said = "Of several seeds the first is shown."
        assert said not in page(tmp_path, paths[0])
        text = page(tmp_path, *paths)
        assert text.count(said) == 2
        assert "Each class in sn-0" in text
        assert "in sn-1" not in text

    def test_hatching_is_explained_where_there_is_some(self, make_scenes: Make, tmp_path: Path) -> None:
        path = make_scenes("sn")
        assert "What is hatched does not count." in page(tmp_path, path)
        for file in path.glob("examples/*.prediction.png"):
            file.with_name(file.name.replace("prediction", "truth")).write_bytes(file.read_bytes())
        assert "hatched" not in page(tmp_path, path)

    def test_encoder_and_decoder_are_looked_at_apart(self, make_scenes: Make, tmp_path: Path) -> None:
        path = make_scenes("sn")
        found = parts(load_run(path))
        assert {title: [layer.layer for layer in epochs[EPOCHS - 1]] for title, epochs in found.items()} == {
            "Encoder": SCENE_LAYERS[:3], "Decoder": SCENE_LAYERS[3:],
        }  # fmt: skip
        assert all(list(epochs) == list(range(EPOCHS)) for epochs in found.values())
        text = page(tmp_path, path)
        assert [text.count(f"<h4>{title}</h4>") for title in found] == [1, 1]

    @pytest.mark.parametrize("layers", [["encoder.sn1"], ["encoder.sn1", "head.sn"], ["backbone.a", "classifier.1"]])
    def test_only_networks_of_two_parts_are_taken_apart(self, make_scenes: Make, layers: list[str]) -> None:
        path = make_scenes("sn")
        text = (path / "importance.csv").read_text()
        for old, new in zip(SCENE_LAYERS, [*layers, *layers[-1:] * 5], strict=False):
            text = text.replace(old, new)
        (path / "importance.csv").write_text(text)
        assert list(parts(load_run(path))) == (["Encoder", "Decoder"] if "classifier.1" in layers else [""])

    def test_classification_is_not_taken_apart(self, make_run: Make) -> None:
        assert list(parts(load_run(make_run("sn", layers=SCENE_LAYERS)))) == [""]

    def test_two_tasks_on_one_page_have_tables_and_curves_of_their_own(
        self, make_run: Make, make_scenes: Make, tmp_path: Path
    ) -> None:
        text = page(tmp_path, make_run("bn"), make_scenes("sn"))
        captions = re.findall(r"<figcaption>([^<]*, %)</figcaption>", text)
        assert captions == ["Validation accuracy, %", "Validation mean IoU, %", "Validation pixel accuracy, %"]
        assert text.count("<h3>Classification</h3>") == text.count("<h3>Segmentation</h3>") == 2


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
    text = page(tmp_path, path)
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(2)&gt;" in text
    assert set(re.findall(r'src="(.{5})', text)) == {"data:"}


def test_the_tests_own_pictures_are_what_training_writes(make_scenes: Make) -> None:
    with Image.open(make_scenes("sn") / "examples" / "square.truth.png") as image:
        assert (image.mode, image.info["transparency"]) == ("P", 255)
        assert np.array_equal(np.asarray(image), scenes.stripes(4))
