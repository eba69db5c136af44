"""Objects on pictures: what is drawn, where, and that it can be read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from switchnorm.tasks.detection.drawn import Drawer
from switchnorm.tasks.detection.found import Truth
from switchnorm.tasks.detection.painting import class_colors, paint
from tests.tasks.detection.pictures import mask, tally

NAMES = ("cell", "a class with a long name", "猫")
COLORS = class_colors(3)


def ground(value: int = 128, size: tuple[int, int] = (200, 120)) -> Image.Image:
    return Image.new("RGB", size, (value,) * 3)


def changed(one: Image.Image, other: Image.Image) -> np.ndarray:
    return (np.asarray(one.convert("RGB")) != np.asarray(other.convert("RGB"))).any(-1)


def test_a_box_is_drawn_in_the_colour_of_its_class_and_the_picture_stays_as_it_is() -> None:
    picture = ground()
    before = picture.copy()
    drawn = paint(picture, np.array([[40.0, 50.0, 120.0, 100.0]]), [1], NAMES, COLORS)
    assert (drawn.mode, drawn.size) == ("RGB", picture.size)
    assert not changed(picture, before).any()
    pixels = np.asarray(drawn)
    for x, y in ((40, 75), (119, 75), (80, 99)):
        assert pixels[y, x].tolist() == COLORS[0].tolist()
    assert pixels[75, 80].tolist() == [128] * 3, "nothing within it"
    assert not changed(drawn, picture)[:, 150:].any(), "nothing far from it"


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_pictures_of_any_mode(mode: str) -> None:
    drawn = paint(ground().convert(mode), np.array([[10.0, 10.0, 50.0, 50.0]]), [1], NAMES, COLORS)
    assert drawn.mode == "RGB"
    assert changed(drawn, ground()).any()


def test_a_mask_tints_what_it_covers_and_its_edge_is_opaque() -> None:
    box = np.array([20.0, 10.0, 100.0, 110.0], np.float32)
    shape = mask(box, (120, 200))
    drawn = np.asarray(paint(ground(), box[None], [1], NAMES, COLORS, masks=[shape]))
    middle, beside = drawn[60, 60], drawn[15, 25]
    np.testing.assert_allclose(middle, 0.6 * 128 + 0.4 * COLORS[0], atol=0.51)
    assert beside.tolist() == [128] * 3
    as_array = np.zeros((120, 200), bool)
    as_array[30:60, 50:80] = True
    drawn = np.asarray(paint(ground(), box[None], [1], NAMES, COLORS, masks=[as_array]))
    assert drawn[30, 60].tolist() == COLORS[0].tolist()
    np.testing.assert_allclose(drawn[45, 65], 0.6 * 128 + 0.4 * COLORS[0], atol=0.51)
    empty = paint(ground(), box[None], [1], NAMES, COLORS, masks=[np.zeros((120, 200))])
    assert not changed(empty, paint(ground(), box[None], [1], NAMES, COLORS)).any()


def test_the_first_is_on_top() -> None:
    boxes = np.array([[20.0, 40.0, 90.0, 100.0], [20.0, 40.0, 90.0, 100.0]])
    drawn = np.asarray(paint(ground(), boxes, [1, 2], NAMES, COLORS))
    assert drawn[70, 20].tolist() == COLORS[0].tolist()


def luminance(color: np.ndarray) -> float:
    linear = np.where(color / 255 <= 0.04045, color / 255 / 12.92, ((color / 255 + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("label", range(1, 81))
def test_signs_are_legible_in_every_colour(label: int) -> None:
    """Of 80 classes, letters have a contrast of 4.5 to 1 to what is behind them, on whatever picture."""
    colors = class_colors(80)
    names = ["name"] * 80
    drawn = np.asarray(paint(ground(0), np.array([[60.0, 60.0, 150.0, 100.0]]), [label], names, colors))
    sign = drawn[46:59, 62:80].reshape(-1, 3)
    own = luminance(colors[label - 1].astype(float))
    assert (sign == colors[label - 1]).all(1).mean() > 0.3, "the sign has the class's colour"
    contrasts = [
        (max(own, it) + 0.05) / (min(own, it) + 0.05) for it in (luminance(each.astype(float)) for each in sign)
    ]
    assert max(contrasts) >= 4.5


def test_names_and_scores_are_written_and_differ() -> None:
    box = np.array([[60.0, 60.0, 150.0, 100.0]])
    plain = paint(ground(), box, [1], NAMES, COLORS)
    scored = paint(ground(), box, [1], NAMES, COLORS, scores=[0.87])
    other = paint(ground(), box, [1], NAMES, COLORS, scores=[0.35])
    crowd = paint(ground(), box, [1], NAMES, COLORS, crowd=[True])
    assert changed(plain, scored).any()
    assert changed(scored, other).any()
    assert changed(plain, crowd)[58:].any(), "the box of a crowd is dashed"


@pytest.mark.parametrize(
    "box",
    [[0, 0, 200, 120], [-50, -50, 500, 500], [199.9, 119.9, 200, 120], [50, 50, 50, 50], [0, 0, 0.2, 0.2]],
)
@pytest.mark.parametrize("label", [1, 2, 3])
def test_boxes_at_and_beyond_the_edge_and_without_area(box: list[float], label: int) -> None:
    drawn = paint(ground(), np.array([box]), [label], NAMES, COLORS, scores=[1.0])
    assert drawn.size == (200, 120)
    assert changed(drawn, ground()).any()


def test_a_picture_of_one_pixel_and_one_without_objects() -> None:
    assert paint(ground(size=(1, 1)), np.array([[0.0, 0.0, 1.0, 1.0]]), [1], NAMES, COLORS).size == (1, 1)
    assert not changed(paint(ground(), np.zeros((0, 4)), [], NAMES, COLORS), ground()).any()


def test_signs_of_neighbours_do_not_cover_each_other() -> None:
    boxes, names = np.array([[40.0, 50.0, 60.0, 90.0], [64.0, 50.0, 84.0, 90.0]]), ("lengthy", "longer")
    together = np.asarray(paint(ground(), boxes, [1, 2], names, COLORS))
    for place in (0, 1):
        alone = np.asarray(paint(ground(), boxes[place : place + 1], [place + 1], names, COLORS))
        of_class = [(each == COLORS[place]).all(-1).sum() for each in (together, alone)]
        assert of_class[0] > 0.9 * of_class[1]


def test_colours_of_classes_differ() -> None:
    assert len({tuple(color) for color in class_colors(256).tolist()}) == 256
    assert class_colors(300).shape == (300, 3)
    assert class_colors(300)[256].tolist() == class_colors(300)[0].tolist()


def test_pictures_are_reduced_before_they_are_drawn_on() -> None:
    draw = np.random.default_rng(0)
    given = tally(draw, 0, classes=3, objects=3, detections=4, masks=True, size=(240, 400))
    drawer = Drawer(NAMES, COLORS, 0.0, longest=200)
    picture = ground(size=(400, 240))
    drawn = drawer.objects(picture, given.truth)
    assert drawn.size == (200, 120)
    assert drawer.found(picture, given.found).size == (200, 120)
    assert Drawer(NAMES, COLORS, 0.0).objects(picture, given.truth).size == (400, 240)
    box = np.array([[100.0, 80.0, 300.0, 200.0]], np.float32)
    truth = Truth(box, np.array([1]), np.array([1.0]), np.array([False]))
    pixels = np.asarray(drawer.objects(picture, truth))
    assert pixels[70, 50].tolist() == pixels[70, 149].tolist() == COLORS[0].tolist()


def test_only_detections_of_the_score_that_is_shown_are_drawn() -> None:
    given = tally(np.random.default_rng(0), 0, classes=3, objects=3, detections=4)
    found = given.found._replace(scores=np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    picture = ground(size=(160, 120))
    assert not changed(Drawer(NAMES, COLORS, 0.5).found(picture, found), picture).any()
    at = Drawer(NAMES, COLORS, float(found.scores[3])).found(picture, found)
    assert not changed(at, paint(picture, found.boxes[3:], found.labels[3:], NAMES, COLORS, found.scores[3:])).any()
