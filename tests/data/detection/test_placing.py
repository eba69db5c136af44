"""Where pixels, boxes and masks of one picture go, against loops; mosaics and pasted objects."""

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco
from hypothesis import given
from hypothesis import strategies as st

from switchnorm.data.detection.copy_paste import copy_paste
from switchnorm.data.detection.mosaic import mosaic, quarters
from switchnorm.data.detection.objects import Objects
from switchnorm.data.detection.patches import Patch, bounds
from switchnorm.data.detection.placing import Placing
from switchnorm.data.detection.run_lengths import columns
from switchnorm.data.detection.sample import Placed, Sample


@st.composite
def placings(draw):
    original, size = ((draw(st.integers(1, 40)), draw(st.integers(1, 40))) for _ in range(2))
    window = [draw(st.integers(1, side)) for side in size]
    start = [draw(st.integers(0, side - shown)) for side, shown in zip(size, window, strict=True)]
    return Placing(original, size, (*start, *window), mirrored=draw(st.booleans()), inverted=draw(st.booleans()))


def source(placing, row, column):
    """The pixel of the original in which the middle of a shown pixel lies."""
    top, left, height, width = placing.window
    row = height - 1 - row if placing.inverted else row
    column = width - 1 - column if placing.mirrored else column
    factors = [old / new for old, new in zip(placing.original, placing.size, strict=True)]
    return (top + row + 0.5) * factors[0], (left + column + 0.5) * factors[1]


def rle(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(placings(), st.integers(0, 10_000))
def test_a_mask_goes_where_its_pixels_go(placing, seed):
    mask = np.random.default_rng(seed).random(placing.original) < 0.3
    found = np.zeros(placing.shown, bool)
    patch = placing.patch(rle(mask))
    if patch is not None:
        height, width = patch.pixels.shape
        found[patch.top : patch.top + height, patch.left : patch.left + width] = patch.pixels
    for row in range(placing.shown[0]):
        for column in range(placing.shown[1]):
            down, right = (int(number + 1e-9) for number in source(placing, row, column))
            assert found[row, column] == mask[down, right]
    assert (patch is None) == (not found.any())


@given(placings(), st.integers(0, 10_000))
def test_an_unresized_window_shows_the_very_pixels(placing, seed):
    resized = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (2, *placing.size), dtype=np.uint8))
    shown = placing.pixels(resized)
    same = Placing(placing.size, *[getattr(placing, name) for name in ("size", "window", "mirrored", "inverted")])
    for row in range(placing.shown[0]):
        for column in range(placing.shown[1]):
            down, right = source(same, row, column)
            assert torch.equal(shown[:, row, column], resized[:, int(down), int(right)])


@given(placings(), st.integers(0, 10_000), st.booleans())
def test_a_box_goes_where_its_corners_go(placing, seed, has_masks):
    generator = np.random.default_rng(seed)
    height, width = placing.original
    corners = generator.random((6, 2, 2)) * [width, height]
    boxes = torch.tensor(np.concatenate([corners.min(1), corners.max(1)], 1), dtype=torch.float32)
    crowd = torch.tensor([False, True] * 3)
    everything = (rle(np.ones(placing.original, bool)),) * 6 if has_masks else None
    placed = placing.objects(Objects(boxes, torch.arange(1, 7), torch.ones(6).double(), crowd, everything))
    expected = [moved(placing, box) for box in boxes.tolist()]
    kept = [place for place, box in enumerate(expected) if box[2] - box[0] > 0.016 and box[3] - box[1] > 0.016]
    assert placed.labels.tolist() == [place + 1 for place in kept if not crowd[place]]
    assert len(placed.ignored) == sum(bool(crowd[place]) for place in kept)
    for box, place in zip(placed.ignored.tolist(), (place for place in kept if crowd[place]), strict=True):
        assert box == pytest.approx(expected[place], abs=1e-3)
    if not has_masks:
        for box, label in zip(placed.boxes.tolist(), placed.labels.tolist(), strict=True):
            assert box == pytest.approx(expected[label - 1], abs=1e-3)


def moved(placing, box):
    """A box scaled, shifted, mirrored and clipped, one edge after the other."""
    top, left, height, width = placing.window
    x = [edge * placing.size[1] / placing.original[1] - left for edge in (box[0], box[2])]
    y = [edge * placing.size[0] / placing.original[0] - top for edge in (box[1], box[3])]
    if placing.mirrored:
        x = [width - edge for edge in reversed(x)]
    if placing.inverted:
        y = [height - edge for edge in reversed(y)]
    clip = [min(max(edge, 0), side) for edge, side in ((x[0], width), (y[0], height), (x[1], width), (y[1], height))]
    return clip


def test_a_box_that_is_cut_is_that_of_what_is_left_of_its_mask():
    mask = np.zeros((10, 20), bool)
    mask[2:8, 4:18] = True
    mask[2:6, :10] = False  # an L, of which the window shows the foot
    objects = Objects(
        torch.tensor([[4.0, 2.0, 18.0, 8.0]] * 2),
        torch.tensor([1, 2]),
        torch.ones(2),
        torch.zeros(2).bool(),
        (rle(mask),) * 2,
    )
    whole = Placing((10, 20), (10, 20), (0, 0, 10, 20)).objects(objects)
    assert torch.equal(whole.boxes, objects.boxes)
    left = Placing((10, 20), (10, 20), (0, 0, 10, 9)).objects(objects)
    assert left.boxes.tolist() == [[4.0, 6.0, 9.0, 8.0]] * 2
    nothing = Placing((10, 20), (10, 20), (0, 0, 6, 9)).objects(objects)  # a part of the box, and none of the mask
    assert (nothing.boxes.shape, nothing.labels.shape, nothing.masks) == ((0, 4), (0,), ())


def test_the_pixels_that_its_box_touches_stand_for_a_mask_without_any():
    """An object stays, as it does where masks are not read."""
    nothing = rle(np.zeros((10, 20), bool))
    boxes = torch.tensor([[4.2, 2.0, 6.5, 3.1], [7.6, 7.3, 7.9, 7.8]])
    objects = Objects(boxes, torch.tensor([1, 2]), torch.ones(2), torch.zeros(2).bool(), (nothing,) * 2)
    whole = Placing((10, 20), (10, 20), (0, 0, 10, 20)).objects(objects)
    assert torch.equal(whole.boxes, boxes)
    assert [bounds(mask) for mask in whole.masks] == [(4, 2, 7, 4), (7, 7, 8, 8)]
    assert all(mask.pixels.all() for mask in whole.masks)
    part = Placing((10, 20), (10, 20), (0, 0, 10, 5)).objects(objects)
    assert part.labels.tolist() == [1]
    assert part.boxes.tolist() == [[4, 2, 5, 4]]


def sample(size, value, rectangles, *, ignored=()):
    """A picture of one value with an object in each rectangle, top, left, height and width."""
    masks = tuple(Patch(top, left, np.ones((height, width), np.uint8)) for top, left, height, width in rectangles)
    boxes = torch.tensor([bounds(mask) for mask in masks]).view(-1, 4)
    placed = Placed(boxes, torch.arange(len(masks)) + value, torch.tensor(ignored).view(-1, 4).float(), masks)
    return Sample(torch.full((3, *size), value, dtype=torch.uint8), placed, ((0, 0, *size),))


def test_pasted_objects_cover_others_which_keep_what_is_left():
    onto = sample((20, 30), 10, [(0, 0, 4, 4), (8, 8, 6, 6), (0, 20, 5, 5)], ignored=[[0, 0, 9, 9]])
    source = sample((10, 12), 50, [(0, 0, 5, 5), (6, 4, 4, 8), (1, 9, 3, 3)], ignored=[[1, 1, 3, 3]])
    found = copy_paste(onto, source, [True, True, False], (0, 0))
    # The first is covered wholly, of the second two rows as far as column 12.
    assert found.objects.labels.tolist() == [11, 12, 50, 51]
    assert found.objects.boxes.tolist() == [[8, 8, 14, 14], [20, 0, 25, 5], [0, 0, 5, 5], [4, 6, 12, 10]]
    assert found.objects.ignored.tolist() == [[0, 0, 9, 9]]
    expected = np.full((20, 30), 10)
    expected[0:5, 0:5] = expected[6:10, 4:12] = 50
    assert np.array_equal(found.pixels[0].numpy(), expected)
    assert found.objects.masks[0].pixels.sum() == 36 - 2 * 4
    assert (onto.pixels == 10).all()  # it is another one
    half = copy_paste(onto, source, [False, True, False], (2, 4))
    assert half.objects.boxes.tolist()[1] == [8, 12, 14, 14]
    assert half.objects.boxes.tolist()[-1] == [8, 8, 16, 12]
    assert copy_paste(onto, source, [False] * 3, (2, 5)) is onto


def test_nothing_is_pasted_where_no_picture_is():
    onto = sample((20, 30), 10, [])._replace(filled=((0, 0, 20, 10), (0, 25, 20, 5)))
    source = sample((20, 30), 50, [(0, 0, 5, 15), (4, 12, 4, 4)])
    found = copy_paste(onto, source, [True, True], (0, 0))
    assert found.objects.labels.tolist() == [50]
    assert found.objects.boxes.tolist() == [[0, 0, 10, 5]]
    assert set(found.pixels[0, :, 10:].flatten().tolist()) == {10}


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.25, 0.75), st.floats(0.25, 0.75))
def test_the_quarters_of_a_mosaic_are_all_of_it_once(height, width, down, right):
    count = np.zeros((height, width), int)
    for top, left, tall, wide in quarters((height, width), (down, right)):
        count[top : top + tall, left : left + wide] += 1
    assert (count == 1).all()


def test_small_pictures_of_a_mosaic_lie_where_the_four_meet():
    size, meet = (20, 30), (0.5, 0.4)
    parts = [
        (quarter, sample((4, 5), 10 + number, [(0, 0, 2, 3)])) for number, quarter in enumerate(quarters(size, meet))
    ]
    found = mosaic(size, parts)
    assert found.filled == ((6, 7, 4, 5), (6, 12, 4, 5), (10, 7, 4, 5), (10, 12, 4, 5))
    for number, (top, left, height, width) in enumerate(found.filled):
        assert (found.pixels[:, top : top + height, left : left + width] == 10 + number).all()
        assert found.objects.boxes[number].tolist() == [left, top, left + 3, top + 2]
        assert (found.objects.masks[number].top, found.objects.masks[number].left) == (top, left)
    assert int((found.pixels[0] > 0).sum()) == 4 * 20


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 10_000), st.data())
def test_columns_of_a_mask_are_those_of_the_whole(height, width, share, seed, data):
    mask = np.random.default_rng(seed).random((height, width)) < share
    first = data.draw(st.integers(0, width - 1))
    end = data.draw(st.integers(first, width))
    assert np.array_equal(columns(rle(mask), first, end), mask[:, first:end])
