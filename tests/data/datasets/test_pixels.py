"""What files of every kind become in batches: the right way up, in any bands, by one range."""

import itertools
import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from switchnorm.data import Folder, Masks
from switchnorm.data.augment.normalization import IMAGENET_MEAN, IMAGENET_STD
from switchnorm.errors import InputError
from tests.data.files.pictures import stored, write_turned
from tests.data.photos import folder, photo, training
from tests.data.segmentation.mapped import assert_same, dataset, labels_of, refused, write_odgt, write_root


def turned_copy(root, copy):
    """The same pictures, each stored in another of the eight ways."""
    for place, path in enumerate(sorted(root.rglob("*.*"))):
        target = (copy / path.relative_to(root)).with_suffix(path.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            target.write_bytes(path.read_bytes())
        else:
            with Image.open(path) as picture:
                pixels = np.array(picture)
            write_turned(target, pixels, place % 8 + 1)
    return copy


def as_png(tree, root):
    """A tree of photographs without the losses of another JPEG."""
    for path in tree.rglob("*.jpg"):
        target = (root / path.relative_to(tree)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(target)
    return root


def test_turned_photographs_are_trained_and_evaluated_on_as_upright_ones(tree, tmp_path):
    upright = as_png(tree, tmp_path / "upright")
    turned = turned_copy(upright, tmp_path / "turned")
    assert_same(list(training(upright)), list(training(turned)))
    for views in ("centre", "ten"):
        assert_same(*(list(folder(root).test_batches(batch_size=4, views=views)) for root in (upright, turned)))


def test_turned_pictures_and_masks_are_trained_and_evaluated_on_as_upright_ones(tmp_path):
    upright = write_root(tmp_path / "upright")
    turned = turned_copy(upright, tmp_path / "turned")
    batches = [dataset(root).train_batches(batch_size=2, seed=3) for root in (upright, turned)]
    assert_same(*(list(each) for each in batches))
    scenes = [list(itertools.chain(*dataset(root).test_batches(batch_size=2))) for root in (upright, turned)]
    for one, other in zip(*scenes, strict=True):
        assert one.size == other.size
        assert torch.equal(one.target, other.target)
        assert all(torch.equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))
    assert dataset(upright).shape == dataset(turned).shape


def test_a_mask_that_lies_as_its_picture_is_stored_is_named_so(tmp_path):
    root = write_root(tmp_path, train=[(24, 30)])
    path = root / "train" / "00.png"
    write_turned(path, np.array(Image.open(path)), 6)
    mask = root / "trainannot" / "00.png"
    Image.fromarray(stored(np.array(Image.open(mask)), 6)).save(mask)
    refused(
        r"mask .*00.png is 24x30, as its picture .* is stored before its EXIF data turns it to 30x24; turn the mask",
        lambda: list(dataset(root).train_batches(batch_size=1, seed=0)),
    )


def test_a_list_may_state_the_size_of_a_picture_upright_or_as_it_is_stored(tmp_path):
    from switchnorm.data.segmentation import Ade20k

    root = tmp_path / "ade"
    root.mkdir()
    labels = labels_of(0) + 1
    write_turned(root / "a.png", np.array(photo(0)), 6)
    Image.fromarray(labels).save(root / "a_mask.png")
    images, files = [], {"fpath_img": "a.png", "fpath_segm": "a_mask.png"}
    for width, height in ((30, 24), (24, 30)):
        write_odgt(root / "training.odgt", [{**files, "width": width, "height": height}])
        data = Ade20k(str(root), short_sides=[24], label_stride=1, workers=0)
        images.append(next(iter(data.train_batches(batch_size=1, seed=0)))[0])
        assert images[-1].shape[2:] == (24, 32)
    assert torch.equal(*images)
    write_odgt(root / "training.odgt", [{**files, "width": 30, "height": 25}])
    refused(
        r"a.png is 30x24; expected 30x25 as .*training.odgt states",
        lambda: Ade20k(str(root), workers=0).train_batches(batch_size=1, seed=0),
    )


def deep_tree(tree, root, scale=1, dtype=np.uint16):
    """The photographs in grey, with numbers of more than 8 bits."""
    for path in tree.rglob("*.jpg"):
        target = (root / path.relative_to(tree)).with_suffix(".tif")
        target.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(target, np.array(Image.open(path).convert("L")).astype(dtype) * dtype(scale))
    return root


@pytest.mark.parametrize(("scale", "dtype"), [(16, np.uint16), (257, np.uint16), (1 / 255, np.float32)])
def test_deep_pictures_train_and_evaluate_as_those_of_8_bits(scale, dtype, tree, tmp_path):
    grey = deep_tree(tree, tmp_path / "grey", 1, np.uint8)
    deep = deep_tree(tree, tmp_path / "deep", scale, dtype)
    for plain, other in (
        (training(grey), training(deep)),
        (folder(grey).test_batches(batch_size=4), folder(deep).test_batches(batch_size=4)),
    ):
        for (images, labels), (found, own) in zip(plain, other, strict=True):
            assert torch.equal(labels, own)
            assert (images - found).abs().max() < 0.1  # numbers of 12 bits end at 4080, and the range at 4095


def test_a_range_that_was_found_is_said_and_written_down_and_is_the_same_for_all(tree, tmp_path):
    deep = deep_tree(tree, tmp_path / "deep", 16)
    data = folder(deep)
    assert data.found_options() == {"range": [0, 4095]}
    (sentence,) = data.unusual()
    assert "0 becomes black and 4095 white" in sentence
    written = folder(deep, range=[0, 4095])
    assert written.found_options() == {}
    assert written.unusual() == ()
    assert_same(list(data.test_batches(batch_size=4)), list(written.test_batches(batch_size=4)))
    assert folder(tree).found_options() == {}
    assert folder(tree).unusual() == ()
    assert "no effect" in folder(tree, range=[0, 4095]).unusual()[0]


def test_numbers_beyond_the_range_are_counted_once(tree, tmp_path):
    deep = deep_tree(tree, tmp_path / "deep", 16)
    loader = folder(deep, range=[0, 2000]).test_batches(batch_size=4)
    match = r"\d of 9 test pictures have numbers outside of data.range \[0, 2000\]"
    with pytest.warns(UserWarning, match=match) as said:
        list(loader)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(loader)


def banded(tree, root, count, dtype=np.uint8):
    """The photographs as TIFFs of so many bands: red, green, blue and multiples of these."""
    for path in sorted(tree.rglob("*.jpg")):
        target = (root / path.relative_to(tree)).with_suffix(".tif")
        target.parent.mkdir(parents=True, exist_ok=True)
        values = np.array(Image.open(path))[..., [band % 3 for band in range(count)]].astype(dtype)
        tifffile.imwrite(target, values, photometric="minisblack", planarconfig="contig")
    return root


@pytest.mark.parametrize("augment", [True, False])
def test_any_number_of_bands_makes_channels(augment, tree, tmp_path):
    root = banded(tree, tmp_path / "bands", 5)
    data = folder(root, bands=[4, 0, 1, 2, 3], augment=augment)
    assert data.channels == 5
    images, _ = next(iter(data.train_batches(batch_size=4, seed=1)))
    assert images.shape == (4, 5, 16, 16)
    # Bands 4 and 1 are both green, and what happens to one happens to the other.
    assert torch.equal(images[:, 0], images[:, 2])
    assert not torch.equal(images[:, 0], images[:, 1])
    for views, shape in (("centre", (4, 5, 16, 16)), ("ten", (4, 10, 5, 16, 16))):
        assert next(iter(data.test_batches(batch_size=4, views=views)))[0].shape == shape


def test_three_bands_of_many_are_colours_like_any_others(tree, tmp_path):
    root = banded(tree, tmp_path / "bands", 5)
    png = as_png(tree, tmp_path / "png")
    assert_same(list(training(root, bands=[0, 1, 2])), list(training(png)))
    assert_same(list(training(root, bands=[0, 1, 2])), list(training(root, bands=[3, 4, 2])))


def test_mean_and_deviation_are_those_of_the_options_or_imagenets_average(tree, tmp_path):
    root = banded(tree, tmp_path / "bands", 2)
    (pixels, _), (own, _) = (
        next(iter(folder(root, bands=[0, 1], **options).test_batches(batch_size=9)))
        for options in ({"mean": [0, 0], "std": [1, 1]}, {})
    )
    mean, std = sum(IMAGENET_MEAN) / 3, sum(IMAGENET_STD) / 3
    torch.testing.assert_close(own, (pixels - mean) / std)
    with pytest.raises(InputError, match="mean needs one number per channel, 2, got 3"):
        folder(root, bands=[0, 1], mean=[0, 0, 0])


def test_what_is_for_colours_is_left_out_and_said_or_refused(tree, tmp_path):
    root = banded(tree, tmp_path / "bands", 4)
    said = folder(root, bands=[0, 1, 2, 3]).unusual()
    assert said == (
        "bands [0, 1, 2, 3] of pictures are shown, 4 of them",
        "without effect on pictures of 4 channels: color_jitter, lighting",
    )
    assert folder(root, bands=[0]).unusual()[1] == "without effect on pictures of 1 channels: lighting"
    assert len(folder(root, bands=[0, 1, 2, 3], color_jitter=0, lighting=0).unusual()) == 1
    for options, match in (
        ({"rand_augment": 2}, "rand_augment changes colours"),
        ({"interpolation": "lanczos"}, "interpolation 'lanczos' is for pictures of 3 channels"),
    ):
        with pytest.raises(InputError, match=match):
            folder(root, bands=[0, 1, 2, 3], **options)
    assert len(list(training(root, bands=[0], rand_augment=2))) == 3


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bands": []}, "bands must be numbers"),
        ({"bands": [-1]}, "bands must be numbers"),
        ({"range": [1]}, "range must be two numbers"),
        ({"range": [4095, 0]}, "range must be two numbers"),
        ({"range": [0, float("nan")]}, "range must be two numbers"),
    ],
)
def test_impossible_bands_and_ranges_are_refused(options, match):
    for kind in (Folder, Masks):
        with pytest.raises(InputError, match=match):
            kind("anywhere", **options)


def test_more_bands_than_are_read_never_vanish(tree, tmp_path):
    root = banded(tree, tmp_path / "bands", 5)
    refused(r"has 5 bands, .* data.bands", lambda: list(folder(root).test_batches(batch_size=4)))
    refused("data.bands has 7; the last is 4", lambda: list(folder(root, bands=[7]).test_batches(batch_size=4)))


def test_pictures_with_masks_have_any_number_of_bands(tmp_path):
    root = write_root(tmp_path)
    for path in [*(root / "train").iterdir(), *(root / "val").iterdir()]:
        values = np.array(Image.open(path))
        values = np.concatenate([values, values[..., :2]], 2).astype(np.uint16) * 16
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), values, photometric="minisblack", planarconfig="contig")
    data = dataset(root, bands=[0, 1, 2, 3, 4], scale=[0.7, 1.4], crop=[16, 24], color_jitter=0.3)
    assert data.found_options() == {"range": [0, 4095]}
    assert data.unusual()[-1] == "without effect on pictures of 5 channels: color_jitter"
    for images, labels in data.train_batches(batch_size=2, seed=3):
        assert images.shape == (2, 5, 16, 24)
        assert torch.equal(images[:, 0], images[:, 3])
        assert labels.shape == (2, 16, 24)
    for resize in ("antialiased", "plain"):
        data = dataset(root, bands=[0, 1, 2, 3, 4], test_resize=resize, test_sides=[16])
        scene = next(iter(data.test_batches(batch_size=1)))[0]
        assert scene.pictures[0].shape[0] == 5
        assert torch.equal(scene.pictures[0][0], scene.pictures[0][3])
    assert data.test_picture(0).mode == "RGB"
    with pytest.raises(InputError, match="colors 'published' are three"):
        dataset(root, bands=[0], colors="published")


def test_processes_and_workers_change_no_bit_of_a_picture_with_many_bands(tree, tmp_path):
    root = banded(tree, tmp_path / "bands", 5, np.uint16)
    options = {"bands": [0, 1, 2, 3, 4], "range": [0, 255]}
    whole = list(training(root, **options))
    shares = [list(training(root, rank=rank, world=2, **options)) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(batch[0], torch.cat([part[0] for part in parts]))
    assert_same(whole, list(training(root, workers=2, **options)))
