"""A preparation shows pictures as the dataset that it is from shows them in evaluation, bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from switchnorm.data import create_dataset
from switchnorm.data.preparation import Crop, Preparation, ShortSide, ShortSides
from switchnorm.errors import InputError
from tests.data.photos import photo, write_tree
from tests.training.objects import write_objects
from tests.training.scenes import VOID, write_scenes

RGB = {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
RULES = (Crop(20, 16), ShortSide(24, 40), ShortSide(24, None), ShortSides((24, 36), 64, 8), ShortSides((), None, 8))


def through_json(preparation: Preparation) -> Preparation:
    return Preparation.from_dict(json.loads(json.dumps(preparation.to_dict())), "it")


@pytest.mark.parametrize("options", [{}, {"bands": [0]}, {"interpolation": "bicubic", "mean": [0.4] * 3}])
def test_photographs_are_shown_as_a_folder_shows_them(tmp_path, options):
    data = create_dataset("folder", root=str(write_tree(tmp_path)), size=16, resize=20, workers=0, **options)
    preparation = through_json(data.preparation)
    (images, _), paths = next(iter(data.test_batches(batch_size=9))), data._test.paths
    for place, image in enumerate(images):
        shown, size = preparation.prepare(preparation.read(paths[place]))
        assert np.array_equal(preparation.normalized(shown[0]), image.numpy())
        assert size == Image.open(paths[place]).size[::-1]


@pytest.mark.parametrize("colors", ["rgb", "published"])
@pytest.mark.parametrize("resize", ["antialiased", "plain"])
def test_scenes_are_shown_as_their_dataset_shows_them(tmp_path, colors, resize):
    root = write_scenes(tmp_path / "scenes", {"train": 1, "val": 3})
    shown = {"test_sides": [24, 50], "longest": 60, "colors": colors, "test_resize": resize}
    data = create_dataset("masks", root=str(root), ignore=[VOID], workers=0, **shown)
    preparation = through_json(data.preparation)
    for scene in next(iter(data.test_batches(batch_size=3))):
        images, size = preparation.prepare(preparation.read(data._test.pictures[scene.index]))
        assert size == scene.size
        assert len(images) == len(scene.pictures) == 2
        for image, picture in zip(images, scene.pictures, strict=True):
            assert np.array_equal(preparation.normalized(image), picture.numpy())


def test_objects_are_shown_as_their_dataset_shows_them(tmp_path):
    root = write_objects(tmp_path / "objects", {"train": 1, "val": 3})
    data = create_dataset("coco", root=str(root), test_side=40, longest=50, workers=0)
    preparation = through_json(data.preparation)
    for scene in next(iter(data.test_batches(batch_size=3))):
        (image,), size = preparation.prepare(preparation.read(str(sorted((root / "val").iterdir())[scene.index])))
        assert size == scene.size
        assert np.array_equal(preparation.normalized(image), scene.picture.numpy())


def test_digits_are_shown_in_grey_with_their_own_white():
    data = create_dataset("digits")
    preparation = through_json(data.preparation)
    assert (preparation.channels, preparation.scale) == (1, 16 / 255)
    crop = v2.Compose([v2.Resize(8), v2.CenterCrop(8), v2.Grayscale(1)])
    for size in ((30, 24), (8, 8), (7, 90)):
        (image,), _ = preparation.prepare(photo(1, *size))
        expected = np.asarray(crop(photo(1, *size).convert("L").convert("RGB")))
        assert np.abs(image[0].astype(int) - expected).max() <= 1  # grey is resized, and not colours
        assert np.array_equal(preparation.normalized(image), data.shown(photo(1, *size)).numpy())


@pytest.mark.parametrize("rule", RULES)
def test_bands_are_resized_one_by_one_as_pillow_resizes_grey(rule):
    preparation = through_json(Preparation(rule, (0.0,) * 5, (1.0,) * 5, bands=(4, 3, 2, 1, 0)))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 29, 37), np.uint8)
    images, _ = preparation.prepare(pixels)
    alone = Preparation(rule, (0.0,), (1.0,), bands=(0,))
    for band in range(5):
        for image, one in zip(images, alone.prepare(pixels[band : band + 1]).images, strict=True):
            assert np.array_equal(image[band], one[0])
    (part,) = preparation.parts(pixels)
    assert all(np.array_equal(one, other) for one, other in zip(part.images, images, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (200, 3)])
@pytest.mark.parametrize("rule", RULES)
def test_pictures_of_any_shape_are_prepared(rule, size):
    preparation = Preparation(rule, **RGB)
    images, found = preparation.prepare(Image.new("RGB", size[::-1], (7, 8, 9)))
    assert found == size
    for image in images:
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        inside = image[:, image.shape[1] // 2, image.shape[2] // 2]
        assert inside.tolist() == [7, 8, 9]
        torch.from_numpy(preparation.normalized(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": [1, 2]}, "it: mean has 2 channels and std 3"),
        ({"std": [0, 1, 1]}, r"it: std \[0.0, 1.0, 1.0\] must be numbers above 0"),
        ({"mean": "red"}, "it: mean is 'red'; expected a list of numbers"),
        ({"order": "bgrr"}, "order of colours 'bgrr' is unknown; did you mean 'bgr'"),
        ({"scale": 0}, "it: scale 0.0 of pixels must be above 0"),
        ({"bands": [0]}, r"it: bands \[0\] are 1, and mean has 3 channels"),
        ({"range": [9, 3]}, "it: range is"),
        ({"interpolation": "bilinar"}, "interpolation 'bilinar' is unknown; did you mean 'bilinear'"),
        ({"rule": None}, "rule of sizes 'None' is unknown"),
        ({"rule": {"kind": "crp", "side": 3, "size": 3}}, "rule of sizes 'crp' is unknown; did you mean 'crop'"),
        ({"rule": {"kind": "crop", "side": 3}}, "it: rule of preparation lacks 'size'"),
        ({"rule": {"kind": "crop", "side": 3, "size": -3}}, "it: size is -3; expected a whole number, 1 to"),
        ({"rule": {"kind": "crop", "side": 3, "size": 3, "code": 1}}, "entry of rule of preparation 'code' is unknown"),
        ({"sizes": 1}, "entry of preparation 'sizes' is unknown"),
    ],
)
def test_a_damaged_description_is_named(change, message):
    values = {**Preparation(Crop(20, 16), **RGB).to_dict(), **change}
    with pytest.raises(InputError, match=message):
        Preparation.from_dict(values, "it")
