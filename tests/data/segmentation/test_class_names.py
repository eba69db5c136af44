"""The names of classes in a file, and their colours."""

import numpy as np
import pytest
from PIL import Image

from switchnorm.config.recipe import evaluation_config
from switchnorm.data.segmentation import Masks
from switchnorm.data.segmentation.class_names import read_classes, split_color
from switchnorm.data.segmentation.palette import distinct_colors
from switchnorm.errors import InputError
from tests.data.segmentation.mapped import CLASSES, dataset, refused


@pytest.mark.parametrize(
    ("text", "name", "color"),
    [
        ("road", "road", None),
        ("road #804080", "road", (128, 64, 128)),
        ("road\t#FFaa09 ", "road", (255, 170, 9)),
        (" road  128 64   128", "road", (128, 64, 128)),
        ("traffic light 0 0 255", "traffic light", (0, 0, 255)),
        ("chest of  drawers", "chest of  drawers", None),
        ("lane 1 2 3 #010203", "lane 1 2 3", (1, 2, 3)),
        ("lane 1 2 3 4 5 6", "lane 1 2 3", (4, 5, 6)),
        ("lane #1", "lane #1", None),
        ("lane #1234567", "lane #1234567", None),
        ("lane 1 2 256", "lane 1 2 256", None),
        ("lane 1 2", "lane 1 2", None),
        ("lane 1, 2, 3", "lane 1, 2, 3", None),
        ("#804080", "#804080", None),
        ("1 2 3", "1 2 3", None),
        ("", "", None),
    ],
)
def test_a_colour_ends_a_line(text, name, color):
    assert split_color(text) == (name, color)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "classes.txt is missing; expected the name of a class in each line"),
        ("", "classes.txt names 0 classes; expected 1 to 255, one in each line"),
        ("\n".join(map(str, range(256))), "classes.txt names 256 classes; expected 1 to 255"),
        ("a\nb\na\n", "classes.txt: line 3 repeats 'a'; expected the name of another class"),
        ("a\n\nb\n", "classes.txt: line 2 is empty"),
        ("a #010203\nb\nc\nd 1 2 3\n", "classes.txt: line 2, 'b', ends with no colour as others do; expected 'NAME #"),
        ("a\nb\nc 1 2 3\n", "classes.txt: line 1, 'a', ends with no colour as others do"),
        ("a #010203\nb #01020\n", "classes.txt: line 2, 'b #01020', has a # that is no colour"),
        ("a 1 2 3\nb 1 2 256\n", "line 2, 'b 1 2 256', .* or 'NAME 128 64 128' in all lines or in none"),
        ("a #010203\na #040506\n", "classes.txt: line 2 repeats 'a'"),
    ],
)
def test_classes_that_are_not_named(own, text, match):
    if text is None:
        (own / "classes.txt").unlink()
    else:
        (own / "classes.txt").write_text(text)
    refused(match, dataset(own).prepare)


def test_a_class_cannot_be_ignored(own):
    refused(
        "ignore has 2, which is class 'blue'; leave it out, or take it from classes", dataset(own, ignore=[2]).prepare
    )


def test_colours_of_the_file_are_the_palette(own):
    (own / "classes.txt").write_text("red light #dc3c3c\ngreen 60 220 60\nblue #3C3CDC\n")
    data = dataset(own)
    assert data.classes == ("red light", "green", "blue")
    assert data.class_colors == ((220, 60, 60), (60, 220, 60), (60, 60, 220))
    assert (data.palette.dtype, data.palette.tolist()) == (np.uint8, [[220, 60, 60], [60, 220, 60], [60, 60, 220]])


def test_classes_without_colours_get_distinct_ones(root):
    assert dataset(root).class_colors is None
    assert np.array_equal(dataset(root).palette, distinct_colors(3))


@pytest.mark.parametrize("where", ["own/names/mine.txt", "here/names/mine.txt", "absolute"])
def test_another_file_is_found_from_here_and_from_the_root(own, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (own / "classes.txt").unlink()
    file = tmp_path / (where if where != "absolute" else "names/mine.txt")
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(CLASSES))
    name = {"own/names/mine.txt": "names/mine.txt", "absolute": str(file)}.get(where, where)
    data = dataset(own, classes_file=name)
    data.prepare()
    assert data.classes == CLASSES
    refused(
        f"classes_file 'none.txt' is not a file, neither here nor in {own}",
        dataset(own, classes_file="none.txt").prepare,
    )


def test_a_class_that_a_named_file_has_cannot_be_ignored(own):
    (own / "mine.txt").write_text("a\nb\n")
    data = dataset(own, classes_file="mine.txt", ignore=[1])
    refused("ignore has 1, which is class 'b'; leave it out, or take it from mine.txt", data.prepare)


@pytest.mark.parametrize("root", [".", "nowhere"])
def test_prediction_needs_the_file_alone(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("road 128 64 128\nsky #4682b4\n")
    data = Masks(root, classes_file="mine.txt", first_label=1, ignore=[], test_sides=[16])
    assert (data.classes, data.num_classes) == (("road", "sky"), 2)
    assert data.palette.tolist() == [[128, 64, 128], [70, 130, 180]]
    assert data.numbering.written(np.array([[0, 1, 255]])).tolist() == [[1, 2, 0]]
    assert [tuple(each.shape) for each in data.scene(Image.new("RGB", (20, 10))).pictures] == [(3, 16, 32)]


def test_a_flag_names_the_file():
    flags = ["--model=resnet18_dilated16+c1_bilinear", "--data=masks", "--data.root=.", "--data.classes_file=mine.txt"]
    assert evaluation_config(flags).data["classes_file"] == "mine.txt"


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "classes.txt").write_bytes("\ufeffsky\nroad\n".encode())
    assert read_classes(tmp_path / "classes.txt").names == ("sky", "road")


@pytest.mark.parametrize("line", ["sky #00f", "#0000ff", "#0000ff sky"])
def test_what_is_meant_as_a_colour_and_is_none_is_refused(tmp_path, line):
    (tmp_path / "classes.txt").write_text(f"{line}\n")
    with pytest.raises(InputError, match="has a # that is no colour"):
        read_classes(tmp_path / "classes.txt")
