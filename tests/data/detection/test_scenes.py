"""Test pictures as detectors are shown them."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data import Share
from switchnorm.data.augment.sizes import fitted
from tests.data.detection.painted import SIZES, dataset, painted, pixels_of, things_of
from tests.data.segmentation.mapped import refused


def scenes(data, batch_size=2, **share):
    batches = data.test_batches(batch_size=batch_size, share=Share(**share))
    return [scene for batch in batches for scene in batch]


@pytest.mark.parametrize("interpolation", [None, "bicubic"])
def test_each_is_the_file_resized_by_pillow_with_the_objects_of_the_original(root, interpolation):
    data = dataset(root, test_side=40, longest=55, interpolation=interpolation)
    found = scenes(data)
    assert [scene.index for scene in found] == list(range(5))
    masks = "masks" in root.name
    for scene, size in zip(found, SIZES, strict=False):
        things = things_of(40 + scene.index, size)
        assert scene.size == size
        height, width = fitted(size, 40, 55)
        how = Image.Resampling.BICUBIC if interpolation else Image.Resampling.BILINEAR
        expected = np.array(Image.fromarray(painted(size, things, masks=masks)).resize((width, height), how))
        assert (scene.picture.dtype, scene.picture.shape) == (torch.float32, (3, height, width))
        assert np.array_equal(pixels_of(scene.picture).round().byte().permute(1, 2, 0).numpy(), expected)
        assert scene.objects.boxes.tolist() == [list(thing.box) for thing in things]
        assert scene.objects.labels.tolist() == [thing.label for thing in things]
        assert scene.objects.crowd.tolist() == [thing.crowd for thing in things]
        assert (scene.objects.masks is not None) == masks
    assert any(not len(scene.objects.boxes) for scene in found)


def assert_same(one, other):
    assert (one.index, one.size) == (other.index, other.size)
    assert torch.equal(one.picture, other.picture)
    for left, right in zip(one.objects[:4], other.objects[:4], strict=True):
        assert torch.equal(left, right)
    assert one.objects.masks == other.objects.masks


@pytest.mark.parametrize(("world", "batch_size"), [(1, 1), (1, 5), (2, 3), (3, 3)])
def test_any_processes_and_batches_show_the_same(masked, world, batch_size):
    data = dataset(masked)
    expected = scenes(data)
    found = [scene for rank in range(world) for scene in scenes(data, batch_size, rank=rank, world=world)]
    for scene, other in zip(sorted(found, key=lambda each: each.index), expected, strict=True):
        assert_same(scene, other)


@pytest.mark.sweep
def test_workers_read_the_same(masked):
    for scene, other in zip(scenes(dataset(masked, workers=1)), scenes(dataset(masked)), strict=True):
        assert_same(scene, other)


def test_any_other_picture_is_shown_like_a_test_picture(boxed):
    data = dataset(boxed)
    for scene in scenes(data):
        path = data._test.paths[scene.index]
        for picture in (Image.open(path), Image.open(path).convert("RGBA")):
            other = data.scene(picture)
            assert (other.index, other.size, other.objects) == (0, scene.size, None)
            assert torch.equal(other.picture, scene.picture)
            assert torch.equal(data.shown(picture), scene.picture)


def test_pictures_of_other_bands_and_published_colours_are_shown(boxed):
    grey = dataset(boxed, bands=[1], color_jitter=0.2, scale=[0.5, 2.0], crop=64)
    for images, targets in grey.train_batches(batch_size=2, seed=3):
        assert images.shape[1:] == (1, 64, 64)
        assert len(targets) == 2
    assert grey.shown(torch.zeros(1, 30, 40, dtype=torch.uint8)).shape == (1, 48, 64)
    assert all(scene.picture.shape[0] == 1 for scene in scenes(grey))
    caffe = scenes(dataset(boxed, colors="published"))
    for scene, other in zip(scenes(dataset(boxed)), caffe, strict=True):
        expected = pixels_of(scene.picture).round().flip(0) - torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
        torch.testing.assert_close(other.picture, expected, rtol=0, atol=1e-4)


def test_the_first_ones_alone_can_be_shown(boxed):
    batches = dataset(boxed).test_batches(batch_size=2)
    batches.first(3)
    assert [len(batch) for batch in batches] == [2, 1]
    refused("views 'flip' is not possible", lambda: dataset(boxed).test_batches(batch_size=1, views="flip"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train"}, "split must be 'val' or 'test', got 'train'"),
        ({"flip": "vertical"}, "flip 'vertical' is unknown"),
        ({"empty": "kept"}, "empty must be 'keep' or 'drop', got 'kept'"),
        ({"color_jitter": 1.5}, "color_jitter must be between 0 and 1, got 1.5"),
        ({"mosaic": -0.1}, "mosaic must be between 0 and 1, got -0.1"),
        ({"copy_paste": float("nan")}, "copy_paste must be between 0 and 1, got nan"),
        ({"short_sides": [0]}, "short_sides must be at least 1, got 0"),
        ({"short_sides": [400]}, "short_sides has 400, which longest 320 never allows; the nearest longest is 400"),
        ({"test_side": 400}, "test_side has 400, which longest 320 never allows"),
        ({"test_side": 0}, "test_side must be at least 1, got 0"),
        ({"longest": 0}, "longest must be at least 1, got 0"),
        ({"scale": [0.1, 2.0]}, r"scale \[0.1, 2.0\] needs crop, as in crop 1024; or set scale to null"),
        ({"crop": 64}, r"crop 64 needs scale, as in scale \[1.0, 1.0\]; or set crop to null"),
        ({"crop": 100, "scale": [1, 1]}, "crop 100 must be a multiple of 32; the nearest is 96"),
        ({"crop": 0, "scale": [1, 1]}, "crop must be at least 1, got 0"),
        ({"crop": 64, "scale": [2, 1]}, "scale must be two factors above 0, the smaller one first"),
        (
            {"crop": 64, "scale": [1, 1], "short_sides": [32]},
            r"short_sides \[32\] has no effect with scale \[1, 1\]; set one of them to null",
        ),
        ({"colors": "bgr"}, "colors must be 'rgb' or 'published', got 'bgr'"),
        ({"colors": "published", "mean": [0, 0, 0]}, "colors 'published' has its own mean and deviation"),
        ({"colors": "published", "bands": [1]}, "colors 'published' are three, and bands"),
        ({"mean": [120, 0, 0]}, r"mean is for pixels in \[0, 1\], got 120; the nearest in 0..255 is 0.4706"),
        ({"interpolation": "linear"}, "interpolation 'linear' is unknown"),
        ({"on_damaged": "ignore"}, "on_damaged must be 'stop' or 'skip', got 'ignore'"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
    ],
)
def test_wrong_options_are_refused_in_a_line(tmp_path, options, message):
    refused(message, lambda: dataset(tmp_path, **options))


def test_options_of_a_network_are_taken_where_they_are_open(boxed):
    from switchnorm.models.pictures import Pictures

    kind = type(dataset(boxed))
    expects = Pictures(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", size=224, crop=0.875)
    options = dataclasses.asdict(dataset(boxed))
    assert kind.options_for(expects, options, (), pretrained=True) == {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
    }
    published = {**options, "colors": "published", "interpolation": "nearest"}
    assert kind.options_for(expects, published, (), pretrained=True) == {}
