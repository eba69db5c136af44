"""Names of masks that differ from those of their pictures by an ending, in every layout."""

import shutil

import pytest

from switchnorm.data import create_dataset
from switchnorm.data.files.suffixes import Suffixes, fitting_suffixes, suffix_beside
from tests.data.segmentation.mapped import dataset, refused


def arrange(own, pictures, masks, picture_suffix="", mask_suffix=""):
    """The pictures and masks of a root elsewhere, in folders such as "{0}/images", under names with endings."""
    other = own.parent / "other"
    for split in ("train", "val"):
        for source, place, suffix in ((split, pictures, picture_suffix), (f"{split}annot", masks, mask_suffix)):
            for path in (own / source).iterdir():
                target = other / place.format(split) / f"{path.stem}{suffix}{path.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    shutil.copy(own / "classes.txt", other)
    return other


LAYOUTS = [
    ("{0}", "{0}annot"),
    ("{0}", "{0}_masks"),
    ("{0}", "{0}_labels"),
    ("images/{0}", "masks/{0}"),
    ("{0}/images", "{0}/masks"),
    ("{0}", "{0}"),
    ("images/{0}", "images/{0}"),
]


@pytest.mark.parametrize(("pictures", "masks"), LAYOUTS)
def test_masks_with_an_ending_are_found_in_every_layout_and_beside_their_pictures(own, pictures, masks):
    other = arrange(own, pictures, masks, mask_suffix="_mask")
    data = dataset(other, mask_suffix="_mask")
    data.prepare()
    assert (data.train_size, data.test_size) == (11, 5)
    for split in (data._train, data._test):
        assert split.left_out == ()
        for place in range(len(split)):
            picture, mask = split.pictures.name(place), split.masks.name(place)
            assert (picture.removesuffix(".png"), mask) == (mask.removesuffix("_mask.png"), mask)
    match = "set data.mask_suffix to '_mask'$"
    refused(match, dataset(other).prepare)
    if pictures != masks:
        refused(match, dataset(other, mask_suffix="_gt").prepare)


def test_endings_of_both(own):
    other = arrange(own, "images/{0}", "masks/{0}", "_img", ".seg")
    refused(
        "11 of the 11 pictures in .* have no mask, the first is .*; set data.picture_suffix to '_img' and "
        "data.mask_suffix to '.seg'",
        dataset(other).prepare,
    )
    assert dataset(other, picture_suffix="_img", mask_suffix=".seg").test_name(0) == "00_img"
    refused(
        "holds no pictures \\*_photo .*; set data.picture_suffix to '_img'",
        dataset(other, picture_suffix="_photo").prepare,
    )


def test_datasets_without_such_options_name_the_one_that_has_them(own):
    camvid = create_dataset("camvid", root=str(arrange(own, "{0}", "{0}annot", mask_suffix="_L")))
    refused("; their names fit with data.name masks, which can set data.mask_suffix to '_L'", camvid.prepare)


def test_what_has_no_ending_is_left_out_and_counted(own):
    other = arrange(own, "{0}", "{0}annot", mask_suffix="_mask")
    shutil.copy(other / "valannot/00_mask.png", other / "valannot/00_edges.png")
    said = dataset(other, mask_suffix="_mask").unusual(training=False)
    assert [each.split(" (")[0] for each in said] == ["val leaves out files whose names do not end with _mask: 1"]


def test_names_that_begin_otherwise_are_named(own):
    other = arrange(own, "images/{0}", "masks/{0}")
    for kind, beginning in (("images", "img_"), ("masks", "mask_")):
        for path in [*other.glob(f"{kind}/*/*")]:
            path.rename(path.with_name(beginning + path.name))
    refused(
        "; rename the masks, whose names begin with 'mask_' where those of pictures begin with 'img_'$",
        dataset(other).prepare,
    )


@pytest.mark.parametrize(
    ("pictures", "masks", "found"),
    [
        (["a", "b"], ["a_mask", "b_mask"], Suffixes("", "_mask")),
        (["ISIC_01", "ISIC_02"], ["ISIC_01_segmentation", "ISIC_02_segmentation"], Suffixes("", "_segmentation")),
        (["1", "10", "11"], ["1_gt", "10_gt", "11_gt"], Suffixes("", "_gt")),
        (["a_leftImg8bit", "b_leftImg8bit"], ["a_gtFine", "b_gtFine"], Suffixes("_leftImg8bit", "_gtFine")),
        (["d/a", "e/a"], ["d/a_m", "e/a_m"], Suffixes("", "_m")),
        (["a", "b", "c", "d"], ["a-L", "b-L", "c-L"], Suffixes("", "-L")),  # one is missing
        (["a", "b", "c"], ["a", "b", "c_mask"], None),  # would lose two
        (["img_1", "img_2"], ["mask_1", "mask_2"], None),
        (["a"], [], None),
        ([], ["a"], None),
    ],
)
def test_the_endings_that_make_names_fit(pictures, masks, found):
    assert fitting_suffixes(pictures, masks) == found


@pytest.mark.parametrize(
    ("pictures", "masks", "found"),
    [
        (["a", "b"], ["a_mask", "b_mask"], "_mask"),  # of other extensions
        (["a", "a_mask", "b", "b_mask"], ["a", "a_mask", "b", "b_mask"], "_mask"),
        (["a", "ab", "abc"], ["a", "ab", "abc"], None),
        (["a", "b"], ["a", "b"], None),
    ],
)
def test_the_ending_of_files_beside_others(pictures, masks, found):
    assert suffix_beside(pictures, masks) == found
