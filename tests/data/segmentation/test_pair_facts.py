"""What is seen of a picture with its mask."""

import numpy as np
import pytest
from PIL import Image

from switchnorm.data.files.picture_file import Pixels
from switchnorm.data.segmentation.labels import Numbering
from switchnorm.data.segmentation.legend import Legend
from switchnorm.data.segmentation.pair_facts import PairItem, SurveyedPairs, look_at_pair
from switchnorm.data.segmentation.sizes import TrainingSizes
from tests.data.photos import photo

LEGEND = Legend(Numbering((1, 2, 300), (0, 7)), ("a", "b", "c"))


@pytest.fixture
def look(tmp_path):
    """Writes a picture of 8 x 6 pixels and a mask, and looks at them."""

    def look(mask, stated=None, exif=None):
        photo(1, width=8, height=6).save(tmp_path / "a.jpg", **({} if exif is None else {"exif": exif}))
        if mask is not None:
            (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(tmp_path / "m.png")
        return look_at_pair(PairItem(str(tmp_path / "a.jpg"), str(tmp_path / "m.png"), stated), Pixels(), LEGEND, False)

    return look


def remarks(facts):
    return [(remark.kind, remark.wrong) for remark in facts.remarks]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_counted_by_label(look, dtype):
    mask = np.ones((6, 8), dtype)
    mask[0], mask[1, :3], mask[1, 3] = 2, 0, 7
    facts = look(mask)
    assert facts.counts == {0: 36, 1: 8, 255: 4}
    assert (remarks(facts), facts.size) == ([], (6, 8))


def test_numbers_beyond_8_bits(look):
    assert look(np.full((6, 8), 300, np.uint16)).counts == {2: 48}


def test_numbers_that_mean_nothing(look):
    mask = np.ones((6, 8), np.uint8)
    mask[0, :2] = 9
    facts = look(mask)
    assert remarks(facts) == [("have a mask that means nothing", True)]
    assert "m.png has 9 " in facts.remarks[0].detail


def test_a_mask_in_which_nothing_counts(look):
    facts = look(np.zeros((6, 8), np.uint8))
    assert remarks(facts) == [("have no pixel that counts", False)]


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (np.ones((6, 9), np.uint8), "have a mask of another size"),
        (Image.effect_noise((8, 6), 90).convert("RGB"), "have a mask that means nothing"),
        (None, "have a mask that cannot be read"),
    ],
)
def test_masks_at_which_training_stops(look, mask, kind):
    assert (kind, True) in remarks(look(mask))


def test_a_mask_that_fits_only_the_stored_orientation(look):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert remarks(look(np.ones((8, 6), np.uint8), exif=exif)) == []
    facts = look(np.ones((6, 8), np.uint8), stated=(6, 8), exif=exif)
    assert remarks(facts) == [
        ("have a mask that fits only the pixels as they are stored, and not as EXIF turns them", True)
    ]


def test_another_size_than_the_list_states(look):
    facts = look(np.ones((6, 8), np.uint8), stated=(6, 9))
    assert remarks(facts) == [("are of another size than the list states", True)]
    assert facts.remarks[0].detail == "8x6 where the list states 9x6"


@pytest.mark.parametrize(("scale", "padded"), [(None, 1), ([0.5, 1.0], 2)])
def test_pictures_that_the_windows_are_larger_than(scale, padded):
    sizes = TrainingSizes((), None, None if scale is None else tuple(scale), (16, 16), 8)
    said = list(
        SurveyedPairs("train", [], LEGEND, Pixels(), sizes).about_sizes(np.array([[12, 40], [20, 40], [90, 90]]))
    )
    assert said == [
        f"{padded} of 3 can be smaller than the windows of 16x16 when they are resized; what is beside them does not "
        "count"
    ]
