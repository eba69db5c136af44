"""Evaluation: every test picture once, at the sizes that are published."""

import numpy as np
import pytest
import torch
from PIL import Image

from switchnorm.data import Share, create_dataset
from switchnorm.data.preparation.plain_resize import plain_resize
from switchnorm.data.segmentation import IGNORED, Scene
from switchnorm.errors import InputError
from tests.data.photos import photo, real_data
from tests.data.segmentation.mapped import dataset, pixels_of, write_root


def scenes(root, *, batch_size=2, rank=0, world=1, **options):
    return list(dataset(root, **options).test_batches(batch_size=batch_size, share=Share(rank, world)))


def flat(batches):
    return [scene for batch in batches for scene in batch]


def assert_same_scenes(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert (one.index, one.size) == (other.index, other.size)
        assert torch.equal(one.target, other.target)
        assert len(one.pictures) == len(other.pictures)
        assert all(torch.equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))


def published_size(height, width, side, longest, multiple):
    """As the published evaluation computes it: whole pixels, then the next multiple."""
    scale = (
        min(side / min(height, width), longest / max(height, width)) if side else min(1, longest / max(height, width))
    )
    return tuple((int(round(edge * scale, 9)) - 1) // multiple * multiple + multiple for edge in (height, width))


@pytest.mark.parametrize("colors", ["rgb", "published"])
@pytest.mark.parametrize(
    ("sides", "longest", "multiple"), [([], None, 8), ([20, 33], 45, 8), ([70], 100, 4), ([], 25, 1)]
)
def test_a_scene_is_the_picture_at_every_size_and_the_mask(root, colors, sides, longest, multiple):
    found = flat(scenes(root, colors=colors, test_sides=sides, longest=longest, multiple=multiple))
    assert [scene.index for scene in found] == list(range(5))
    for number, scene in enumerate(found):
        picture = Image.open(root / f"val/{number:02d}.png")
        assert isinstance(scene, Scene)
        assert scene.size == (picture.height, picture.width)
        assert (scene.target.dtype, scene.target.shape) == (torch.uint8, scene.size)
        assert np.array_equal(scene.target.numpy(), np.array(Image.open(root / f"valannot/{number:02d}.png")))
        assert len(scene.pictures) == max(len(sides), 1)
        for side, shown in zip(sides or [None], scene.pictures, strict=True):
            size = published_size(*scene.size, side, longest or 10**6, multiple)
            pixels = np.array(picture.resize(size[::-1], Image.Resampling.BILINEAR), np.float32)
            if colors == "published":
                expected = torch.from_numpy(pixels[:, :, ::-1] - np.float32([102.9801, 115.9465, 122.7717]))
                torch.testing.assert_close(shown, expected.permute(2, 0, 1), rtol=0, atol=1e-4)
            else:
                torch.testing.assert_close(
                    pixels_of(shown), torch.from_numpy(pixels).permute(2, 0, 1), rtol=0, atol=1e-3
                )


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "lanczos"])
def test_scenes_are_resized_and_normalized_as_is_asked_for(root, interpolation):
    mean, std = [0.5, 0.4, 0.3], [0.5, 0.25, 0.2]
    options = {"interpolation": interpolation, "mean": mean, "std": std, "test_sides": [33], "multiple": 4}
    ours = dataset(root, **options)
    for number, scene in enumerate(flat(ours.test_batches(batch_size=2))):
        picture = Image.open(root / f"val/{number:02d}.png")
        size = published_size(*scene.size, 33, 10**6, 4)
        resized = picture.resize(size[::-1], getattr(Image.Resampling, interpolation.upper()))
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
        expected = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(scene.pictures[0], expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(ours.scene(picture).pictures[0], scene.pictures[0])


def test_plain_resizing_is_opencvs(root):
    options = {"test_sides": [13, 20, 33], "multiple": 4, "colors": "published", "test_resize": "plain"}
    found = flat(scenes(root, **options))
    for number, scene in enumerate(found):
        picture = Image.open(root / f"val/{number:02d}.png")
        for side, shown in zip([13, 20, 33], scene.pictures, strict=True):
            pixels = plain_resize(np.array(picture), published_size(*scene.size, side, 10**6, 4))
            assert shown.is_contiguous()
            expected = torch.from_numpy(pixels[:, :, ::-1] - np.float32([102.9801, 115.9465, 122.7717]))
            torch.testing.assert_close(shown, expected.permute(2, 0, 1), rtol=0, atol=1e-4)
        alone = dataset(root, **options).scene(picture)
        assert all(torch.equal(a, b) for a, b in zip(alone.pictures, scene.pictures, strict=True))
    default = flat(scenes(root, **{**options, "test_resize": "antialiased"}))
    assert not torch.equal(default[0].pictures[0], found[0].pictures[0])


@pytest.mark.parametrize(
    ("side", "means", "largest"), [(300, [1.85, 1.05, 0.10], [53, 63, 1]), (450, [0.57, 0.18, 0.22], [24, 1, 1])]
)
def test_how_far_plain_and_antialiased_photographs_are_apart(side, means, largest):
    """In grey levels, as docs/segmentation.md says."""
    options = {"root": str(real_data("ade20k_sample")), "workers": 0, "colors": "published", "test_sides": [side]}
    ways = (create_dataset("ade20k", test_resize=way, **options) for way in ("antialiased", "plain"))
    batches = zip(*(data.test_batches(batch_size=1) for data in ways), strict=True)
    found = [(one.pictures[0] - other.pictures[0]).abs() for (one,), (other,) in batches]
    assert [float(each.mean()) for each in found] == pytest.approx(means, abs=0.01)
    assert [float(each.max()) for each in found] == pytest.approx(largest, abs=1e-3)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_processes_together_see_every_picture_once(root, world):
    shares = [scenes(root, batch_size=4, rank=rank, world=world, test_sides=[20, 30]) for rank in range(world)]
    assert {len(share) for share in shares} == {2}  # the second batch holds one picture: all but one share are empty
    joined = [scene for batches in zip(*shares, strict=True) for batch in batches for scene in batch]
    assert_same_scenes(joined, flat(scenes(root, test_sides=[20, 30])))


def test_any_number_of_workers_reads_the_same(root):
    assert_same_scenes(flat(scenes(root, workers=1)), flat(scenes(root, workers=0)))


def test_any_picture_becomes_a_scene_without_target(root):
    data = dataset(root, test_sides=[20, 33], colors="published")
    (expected, *_), *_ = data.test_batches(batch_size=1)
    picture = Image.open(root / "val/00.png")
    for each in (picture, picture.convert("RGBA")):
        scene = data.scene(each)
        assert (scene.target, scene.size, scene.index) == (None, (24, 30), 0)
        assert all(torch.equal(a, b) for a, b in zip(scene.pictures, expected.pictures, strict=True))


def test_test_pictures_are_known_by_index(root):
    data = dataset(root)
    assert data.test_size == 5
    assert [data.test_name(index) for index in range(5)] == ["00", "01", "02", "03", "04"]
    assert np.array_equal(np.array(data.test_picture(3)), np.array(Image.open(root / "val/03.png")))
    assert np.array_equal(data.test_target(3).numpy(), np.array(Image.open(root / "valannot/03.png")))


def test_views_are_sizes_here(root):
    with pytest.raises(
        InputError, match="views 'flip' is not possible here; pictures with masks have 'centre', at `test"
    ):
        dataset(root).test_batches(batch_size=1, views="flip")


def test_processes_that_do_not_fit_are_refused(root):
    with pytest.raises(InputError, match="batch size 1 is smaller than the number of processes, 2"):
        scenes(root, batch_size=1, world=2)


def test_prediction_needs_no_data_where_the_classes_are_known():
    data = create_dataset("ade20k", root="nowhere")
    scene = data.scene(photo(0, width=120, height=60))
    assert [tuple(picture.shape) for picture in scene.pictures] == [(3, 456, 904)]
    assert data.numbering.written(torch.tensor([[0, 149, 255]], dtype=torch.uint8)).tolist() == [[1, 150, 0]]


def test_the_test_split_is_evaluated_where_it_is_asked_for(tmp_path):
    root = write_root(tmp_path)
    for name in ("val", "valannot"):
        (root / name).rename(root / name.replace("val", "test"))
    assert len(flat(scenes(root, split="test"))) == 5
    with pytest.raises(
        InputError,
        match="has no val pictures with masks; looked for val with valannot, val_masks or val_labels, images/val",
    ):
        scenes(root)


def test_ade20k():
    folder = real_data("ade20k_sample")
    data = create_dataset("ade20k", root=str(folder), workers=0, colors="published", test_sides=[300, 450])
    data.prepare()
    found = flat(data.test_batches(batch_size=2))
    assert [scene.size for scene in found] == [(512, 683), (364, 500), (300, 400)]
    assert [[tuple(each.shape[1:]) for each in scene.pictures] for scene in found] == [
        [(304, 400), (456, 600)],
        [(304, 416), (456, 624)],
        [(304, 400), (456, 600)],
    ]
    for scene in found:
        numbers = np.array(Image.open(folder / f"annotations/{data.test_name(scene.index)}.png")).astype(int)
        assert np.array_equal(scene.target.numpy(), np.where(numbers == 0, IGNORED, numbers - 1))
        assert np.array_equal(data.numbering.written(scene.target), numbers)
    first_words = [name.split()[0] for name in data.classes]
    assert first_words == (folder / "classes.txt").read_text().split()
    with pytest.raises(
        InputError,
        match=r"no train pictures with masks; looked for train.odgt, training.odgt, what train_list names, train with ",
    ):
        data.train_batches(batch_size=1, seed=0)


@pytest.mark.parametrize(("split", "count"), [("val", 101), ("test", 233)])
def test_camvid(split, count):
    data = create_dataset("camvid", root=str(real_data("camvid")), split=split, workers=0, test_sides=[180])
    assert data.test_size == count
    ((scene,), *_) = [next(iter(data.test_batches(batch_size=1)))]
    assert [tuple(each.shape) for each in scene.pictures] == [(3, 184, 240)]
    assert scene.size == tuple(scene.target.shape) == (360, 480)
    assert set(scene.target.unique().tolist()) <= {*range(11), IGNORED}
