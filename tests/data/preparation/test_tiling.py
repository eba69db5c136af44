import numpy as np
import pytest
from PIL import Image

from switchnorm.data.preparation import EvaluationSizes, Tiling, tiling
from switchnorm.data.preparation.tiling import LONGEST
from tests.data.photos import photo
from tests.data.segmentation.mapped import dataset, write_root

OWN = EvaluationSizes((), None, 8)


@pytest.fixture
def small(monkeypatch):
    for name, value in (("WHOLE", 2**10), ("CORE", 32), ("MARGIN", 8)):
        monkeypatch.setattr(tiling, name, value)


def test_a_picture_of_usual_size_is_one_part_as_evaluation_shows_it(tmp_path):
    data = dataset(write_root(tmp_path), test_sides=[40, 24])
    picture = photo(0, 60, 44)
    (part,) = data.preparation.parts(picture)
    assert len(data.preparation.rule.tiling((44, 60))) == 1
    for ours, whole in zip(part.images, data.scene(picture).pictures, strict=True):
        assert np.array_equal(data.preparation.normalized(ours), whole.numpy())
    assert np.empty((44, 60))[part.core].shape == (44, 60)


@pytest.mark.parametrize("size", [(33, 32), (100, 70), (64, 96), (31, 300), (1, 2000), (2000, 1)])
def test_tiles_decide_every_pixel_once_and_see_what_is_around(small, size):
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    plan = Tiling.of(size, OWN)
    counted, back = np.zeros(size, int), np.zeros_like(pixels)
    found = list(plan.tiles(Image.fromarray(pixels), "nearest"))
    for tile in found:
        counted[tile.core] += 1
        (shown,) = tile.images
        rows, columns = ((each.stop - each.start) for each in tile.core)
        reach = tile.size
        assert reach[0] <= rows + 16
        assert reach[1] <= columns + 16
        assert all(0 <= side - of < 16 for side, of in zip(shown.shape[1:], reach, strict=True))
        shrunk = np.array(Image.fromarray(shown.transpose(1, 2, 0)).resize(reach[::-1], Image.Resampling.NEAREST))
        back[tile.core] = shrunk[tile.within]
    assert (counted == 1).all()
    assert len(found) == len(plan) == -(-height // 32) * -(-width // 32)
    assert np.array_equal(back, pixels)  # enlarged and shrunk by the nearest pixel


def test_tiles_are_as_large_as_the_sizes_make_them(small):
    plan = Tiling.of((200, 300), EvaluationSizes((100, 400), None, 8))
    assert (plan.shown, plan.side, plan.margin) == (((104, 152), (400, 600)), 16, 4)
    tile = list(plan.tiles(photo(0, 300, 200), "bilinear"))[25]
    assert tile.size == (24, 24)
    assert [each.shape for each in tile.images] == [(3, 16, 16), (3, 48, 48)]


@pytest.mark.parametrize(
    ("size", "sizes", "shown", "wanted"),
    [
        ((1, 5000), EvaluationSizes((360,), None, 8), (8, LONGEST), (360, 1_800_000)),
        ((10_000, 2), EvaluationSizes((20,), None, 8), (10_000, 8), (100_000, 24)),
        ((1, 5000), EvaluationSizes((360,), 1000, 8), (8, 1000), None),
        ((480, 640), EvaluationSizes((480,), None, 8), (480, 640), None),
    ],
)
def test_no_side_is_enlarged_beyond_a_bound(size, sizes, shown, wanted):
    plan = Tiling.of(size, sizes)
    assert (plan.shown, plan.unbounded) == ((shown,), wanted)
