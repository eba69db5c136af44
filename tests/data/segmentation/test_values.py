"""What the numbers and colours of masks mean, as `values` says it."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.data.segmentation import IGNORED
from switchnorm.data.segmentation.palette import written_mask
from tests.data.segmentation.mapped import CLASSES, COLORS, dataset, labels_of, refused, write_root

THREE = {0: "red", 7: "green", 255: "blue"}


def write_masks(root, masks, split="val"):
    """Replace the first masks of a split."""
    for number, mask in enumerate(masks):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image.save(root / f"{split}annot/{number:02d}.png")


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_numbers_mean_what_the_map_says_and_are_written_so(tmp_path, mode):
    root = write_root(tmp_path, numbers=(0, 7, 255), mode=mode)
    (root / "classes.txt").unlink()
    data = dataset(root, values=THREE)
    data.prepare()
    assert (data.classes, data.class_colors) == (("red", "green", "blue"), None)
    for index in range(5):
        truth = data.test_target(index)
        expected = labels_of(1000 + index, tuple(truth.shape))
        assert np.array_equal(truth.numpy(), expected)
        written = written_mask(truth, data.numbering, data.palette)
        assert np.array_equal(np.array(written), np.array([0, 7, 255])[expected])
        assert "transparency" not in written.info or written.info["transparency"] not in (0, 7, 255)
        colors = np.array(written.convert("RGB"))
        assert np.array_equal(colors, data.palette[expected])


def test_several_numbers_are_one_class_and_null_void_or_ignore_does_not_count(tmp_path):
    root = write_root(tmp_path)
    (root / "classes.txt").unlink()
    mask = labels_of(1000, (24, 30))
    mask[0, :6] = (0, 1, 2, 9, 10, 11)
    write_masks(root, [mask])
    values = {2: "blue", 9: None, 10: "void", 11: "ignore", 1: "warm", 0: "warm"}
    data = dataset(root, values=values)
    assert data.classes == ("warm", "blue")  # by the smallest number of each, in whatever order they are written
    assert data.test_target(0)[0, :6].tolist() == [0, 0, 1, IGNORED, IGNORED, IGNORED]
    written = data.numbering.written(data.test_target(0))
    assert written[0, :6].tolist() == [0, 0, 2, 9, 9, 9]


def test_predictions_of_a_run_are_written_by_the_names_in_the_map(own):
    known = dataset(own, values=THREE).with_classes(["blue", "red", "green"])
    labels = np.array([[0, 1, 2, IGNORED]], np.uint8)
    assert known.numbering.written(labels)[0, :3].tolist() == [255, 0, 7]
    lacking = dataset(own, values={0: "red", 7: "green"}).with_classes(CLASSES)
    refused(r"data.values \{0: red, 7: green\} has no number for class 'blue'; give it one", lambda: lacking.numbering)


def test_numbers_above_255_are_written_with_16_bits(tmp_path):
    root = write_root(tmp_path, numbers=(3, 300, 65535), mode="I;16")
    (root / "classes.txt").unlink()
    data = dataset(root, values={3: "red", 300: "green", 65535: "blue"})
    truth = data.test_target(0)
    written_mask(truth, data.numbering, data.palette).save(tmp_path / "again.png")
    with Image.open(tmp_path / "again.png") as again:
        assert np.array_equal(np.array(again), np.array([3, 300, 65535])[truth.numpy()])


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P"])
def test_colours_mean_what_the_map_says_also_those_that_a_palette_shows(tmp_path, kind):
    root = write_root(tmp_path)
    (root / "classes.txt").unlink()
    shown = np.vstack([COLORS, [[0, 0, 0]]]).astype(np.uint8)
    masks = []
    for number in range(5):
        labels = labels_of(1000 + number, Image.open(root / f"valannot/{number:02d}.png").size[::-1])
        labels[0, :2] = 3
        image = Image.fromarray(shown[labels])
        if kind == "P":  # with the numbers in an order of its own
            image = Image.fromarray(3 - labels)
            image.putpalette(shown[::-1].tobytes())
        masks.append(image if kind == "P" else image.convert(kind))
    write_masks(root, masks)
    values = {"#dc3c3c": "red", "#3cdc3c": "green", "#3C3CDC": "blue", "#000000": None}
    data = dataset(root, values=values)
    assert data.classes == ("blue", "green", "red")  # by the numbers 0xRRGGBB
    assert data.class_colors == ((60, 60, 220), (60, 220, 60), (220, 60, 60))
    order = np.array([2, 1, 0, IGNORED])
    for index in range(5):
        truth = data.test_target(index).numpy()
        expected = labels_of(1000 + index, truth.shape)
        expected[0, :2] = 3
        assert np.array_equal(truth, order[expected])
    again = np.array(written_mask(truth, data.numbering, data.palette).convert("RGB"))
    assert np.array_equal(again[1:], shown[labels_of(1004, truth.shape)][1:])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"values": {}}, r"values must say which class each number is, \{0: background, 255: road\}, got \{\}"),
        (
            {"values": {0: "a", 70000: "b"}},
            "values has the number 70000; .* 0 to 65535, the nearest is 65535, and a col",
        ),
        ({"values": {-1: "a"}}, "values has the number -1; .* the nearest is 0"),
        ({"values": {1.5: "a"}}, "values has the key 1.5; expected numbers from 0 to 65535, or colours as '#804080'"),
        ({"values": {True: "a"}}, "values has the key True; expected numbers"),
        (
            {"values": {"804080": "a", "#80408": "b"}},
            "values has the number 804080; the numbers of masks are 0 to 65535",
        ),
        ({"values": {"#80408": "b"}}, "values has the key '#80408'; expected numbers .* or colours as '#804080'"),
        ({"values": {0: "a", "0": "b"}}, "values says twice what '0' is; leave one of them"),
        (
            {"values": {0: "a", "#000000": "b"}},
            "values has the number 0 and the colour '#000000'; expected numbers alone",
        ),
        (
            {"values": {0: False, 1: True}},
            "values says that 0 is False; expected the name of a class, in quotes where YAML",
        ),
        ({"values": {0: " "}}, "values says that 0 is ' '; expected the name of a class"),
        ({"values": {0: None, 1: "void"}}, "values names 0 classes; expected 1 to 255"),
        ({"values": {n: str(n) for n in range(256)}}, "values names 256 classes; expected 1 to 255"),
        (
            {"values": {0: "a"}, "ignore": [3]},
            r"ignore \[3\] has no effect with values, which says what every number is",
        ),
        ({"values": {0: "a"}, "first_label": 1}, "first_label 1 has no effect with values"),
        ({"ignore": ["red"]}, "ignore has 'red'; expected numbers from 0 to 65535, or colours as '#000000'"),
    ],
)
def test_a_map_that_cannot_be(options, match):
    refused(match, lambda: dataset("nowhere", **options))


def test_a_map_must_fit_the_file_of_classes_which_gives_the_colours(own):
    values = {0: "blue", 1: "green", 2: "red"}
    assert dataset(own, values=values).classes == ("blue", "green", "red")
    refused(
        "values names a class that .*/classes.txt does not: class 'bleu' is unknown; did you mean 'blue'",
        dataset(own, values={0: "bleu", 1: "green", 2: "red"}).prepare,
    )
    refused(
        "values has no number for class 'red', which .*/classes.txt names; give it one, or take it out",
        dataset(own, values={0: "blue", 1: "green"}).prepare,
    )
    (own / "classes.txt").write_text("red #dc3c3c\ngreen #3cdc3c\nblue #3c3cdc\n")
    assert dataset(own, values=values).class_colors == ((60, 60, 220), (60, 220, 60), (220, 60, 60))


def test_a_number_that_is_not_in_the_map_names_the_map(own):
    mask = labels_of(1001, (30, 25))
    mask[4, 2] = 3
    write_masks(own, [labels_of(1000), mask])
    refused(
        r"mask .*/valannot/01.png has 3 in row 4, column 2; expected the numbers 0 to 2 of the classes "
        r"\(data.values \{0: red, 1: green, 2: blue\}\)",
        lambda: dataset(own, values=dict(enumerate(CLASSES))).test_target(1),
    )


def test_recipes_flags_and_the_configuration_of_a_run_keep_the_map(tmp_path):
    base = "base: camvid/small\ndata:\n  name: masks\n  root: x\n  values:\n    0: background\n    255: road\n"
    (tmp_path / "r.yaml").write_text(base)
    config = read_config(tmp_path / "r.yaml")
    assert config.data["values"] == {0: "background", 255: "road"}
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "again.yaml").data == config.data
    for values in ({0: "background", 1: "road"}, {"#804080": "road", "#000000": None}):
        text = yaml.safe_dump(values, default_flow_style=True)
        for flags in (["--data.values", text], [f"--data.values={json.dumps(values)}"]):
            found = read_config(tmp_path / "r.yaml", flags)
            (tmp_path / "again.yaml").write_text(to_yaml(found))
            again = read_config(tmp_path / "again.yaml")
            assert again.data == found.data
            assert dataset("x", values=again.data["values"])._values == dataset("x", values=values)._values
    (tmp_path / "s.yaml").write_text("base: ./r.yaml\ndata:\n  values: {7: tree}\n")
    assert read_config(tmp_path / "s.yaml").data["values"] == {0: "background", 255: "road", 7: "tree"}
    (tmp_path / "s.yaml").write_text("base: ./r.yaml\ndata:\n  values: 7\n")
    refused(
        "s.yaml, line 3: data.values must be a mapping of 0, 255 as in .*r.yaml, line 5, got 7",
        lambda: read_config(tmp_path / "s.yaml"),
    )
    (tmp_path / "s.yaml").write_text(base + "    0: again\n")
    refused("s.yaml, line 8: key '0' is also set in line 6", lambda: read_config(tmp_path / "s.yaml"))
    (tmp_path / "s.yaml").write_text("base: ./r.yaml\ntrain:\n  5: 3\n")
    refused("s.yaml, line 3: key 'train.5' is unknown", lambda: read_config(tmp_path / "s.yaml"))
    for flags in (["--data.values", "{0: a, 0: b}"], ["--data.values={0: a, 0: b}"]):
        refused("--data.values, line 1: key '0' is also set in line 1", lambda: read_config(tmp_path / "r.yaml", flags))  # noqa: B023
