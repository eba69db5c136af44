"""Training batches: pictures and masks stay together, and everything is a function of (seed, pass, index)."""

import itertools

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from switchnorm.data import Share
from switchnorm.data.augment.sizes import fitted
from switchnorm.data.counter import Stream, integers, permutation, seeds, uniform
from switchnorm.data.segmentation import IGNORED
from switchnorm.data.segmentation.scene_readers import CropRequest
from switchnorm.errors import InputError
from tests.data.photos import real_data
from tests.data.segmentation.mapped import SIZES, assert_same, dataset, endless, pixels_of, shown_labels, write_root

EVERYTHING = {"short_sides": [20, 28, 44], "longest": 60, "scale": [0.6, 1.8], "crop": [32, 40], "color_jitter": 0.3}
WHOLE = {"short_sides": [20, 28, 44], "longest": 50, "label_stride": 4}


def training(root, *, batch_size=2, seed=7, steps=None, rank=0, world=1, **options):
    share = Share(rank, world)
    return dataset(root, **options).train_batches(batch_size=batch_size, seed=seed, steps=steps, share=share)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"short_sides": [15]},
        {"short_sides": [71]},
        {"scale": [0.5, 2.0]},
        {"crop": [16, 16]},
        {"crop": [64, 48]},
        {"color_jitter": 0.4},
        {"flip": False},
        EVERYTHING,
    ],
)
def test_masks_follow_their_pictures(root, options):
    flipped = 0
    for images, labels in itertools.islice(endless(training(root, **options)), 20):
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.shape[2:] == labels.shape[1:]
        assert torch.equal(labels == IGNORED, (images == 0).all(1))
        wrong = (shown_labels(images) != labels).sum() / (labels != IGNORED).sum()
        assert wrong < (0.06 if {"short_sides", "scale"} & options.keys() else 1e-9)  # where three colours meet
        flipped += is_mirrored(root, images, labels) if options in ({}, {"flip": False}) else 0
    assert flipped == 0 if options == {"flip": False} else flipped > 10 or options


def is_mirrored(root, images, labels):
    """How many of the masks are the mirror of one in the files."""
    count = 0
    for each in labels:
        inside = each[each[:, 0] != IGNORED]
        inside = inside[:, inside[0] != IGNORED]
        files = [np.array(Image.open(path)) for path in sorted((root / "trainannot").iterdir())]
        plain, mirror = (any(np.array_equal(side, file) for file in files) for side in (inside, inside.flip(1)))
        assert plain or mirror
        count += mirror and not plain
    return count


def test_a_resized_mask_is_not_shifted_against_its_picture(tmp_path):
    root = write_root(tmp_path, train=[(24, 30)] * 4)
    stripes = np.arange(30, dtype=np.uint8)[None].repeat(24, 0) // 6 % 2
    for number in range(4):
        Image.fromarray(stripes).save(root / f"trainannot/{number:02d}.png")
        Image.fromarray(stripes * 200).save(root / f"train/{number:02d}.png")
    for images, labels in training(root, batch_size=4, short_sides=[96, 120, 168], multiple=1, flip=False):
        assert torch.equal((pixels_of(images)[:, 0] > 100).long(), labels)


@pytest.mark.parametrize("crop", [None, [32, 40]])
def test_batches_are_torchvisions_transforms_under_the_counters_seeds(root, crop):
    batches = training(root, **{**EVERYTHING, "crop": crop})
    for pass_index in (0, 1):
        order = batches._order(pass_index, "cpu")
        for place, (images, labels) in enumerate(batches):
            index = order[2 * place : 2 * place + 2]
            side = EVERYTHING["short_sides"][int(integers(7, pass_index, torch.tensor([place]), Stream.SHORT_SIDE, 3))]
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                pixels, mask = changed(root, pass_index, index[number : number + 1], side, crop)
                height, width = mask.shape
                torch.testing.assert_close(pixels_of(image)[:, :height, :width], pixels.float(), rtol=0, atol=1e-3)
                assert torch.equal(label[:height, :width], mask.long())
                assert (label[height:] == IGNORED).all()
                assert (label[:, width:] == IGNORED).all()
            assert images.shape[2:] == labels.shape[1:]


def changed(root, pass_index, index, side, crop):
    """What must become of a picture and its mask."""
    (name,) = (f"{place:02d}.png" for place in index.tolist())
    pixels, mask = (TF.pil_to_tensor(Image.open(root / folder / name)) for folder in ("train", "trainannot"))
    factor = 0.6 + 1.2 * float(uniform(7, pass_index, index, Stream.SCALE))
    size = [round(edge * factor) for edge in fitted(tuple(mask.shape[1:]), side, EVERYTHING["longest"])]
    pixels = tv_tensors.Image(TF.resize(pixels, size))
    mask = tv_tensors.Mask(TF.resize(mask, size, v2.InterpolationMode.NEAREST_EXACT))
    if crop is not None:
        torch.manual_seed(*seeds(7, pass_index, index, Stream.WINDOW))
        pixels, mask = v2.RandomCrop([min(pair) for pair in zip(crop, size, strict=True)])(pixels, mask)
    if uniform(7, pass_index, index, Stream.FLIP) < 0.5:
        pixels, mask = pixels.flip(-1), mask.flip(-1)
    torch.manual_seed(*seeds(7, pass_index, index, Stream.COLOR))
    return v2.ColorJitter(0.3, 0.3, 0.3)(tv_tensors.Image(pixels)), mask[0]


def test_without_options_a_batch_is_the_files_padded(root):
    upright = torch.tensor([height > width for height, width in SIZES])
    seen = []
    for images, labels in training(root, flip=False):
        for image, label in zip(images, labels, strict=True):
            seen.append(place_of(root, image, label))
    order = permutation(7, 0, len(SIZES))[:10]
    assert sorted(seen) == sorted(order.tolist())
    assert [bool(a == b) for a, b in upright[torch.tensor(seen)].view(-1, 2)].count(False) <= 1


def place_of(root, image, label):
    """Which training picture it is; all but the picture is the mean colour, and does not count."""
    for place, (height, width) in enumerate(SIZES):
        mask = torch.from_numpy(np.array(Image.open(root / f"trainannot/{place:02d}.png"))).long()
        if label.shape[0] >= height and label.shape[1] >= width and torch.equal(label[:height, :width], mask):
            picture = torch.from_numpy(np.array(Image.open(root / f"train/{place:02d}.png"))).permute(2, 0, 1)
            torch.testing.assert_close(pixels_of(image)[:, :height, :width], picture.float(), rtol=0, atol=1e-3)
            for beside in (image[:, height:], image[:, :, width:]):
                assert (beside == 0).all()
            for beside in (label[height:], label[:, width:]):
                assert (beside == IGNORED).all()
            return place
    raise AssertionError("no picture of this mask")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 11])
def test_every_pass_has_as_many_batches_all_but_one_of_like_orientation_and_repeats_nothing(root, batch_size):
    batches = training(root, batch_size=batch_size)
    upright = torch.tensor([height > width for height, width in SIZES])
    assert len(batches) == 11 // batch_size
    waiting, kinds = set(), []
    for pass_index in range(12):
        order = batches._order(pass_index, "cpu")
        assert set(order.tolist()) == set(permutation(7, pass_index, 11)[: len(order)].tolist())
        assert len(order) == len(batches) * batch_size == len(set(order.tolist()))
        waiting |= set(range(11)) - set(order.tolist())
        shares = upright[order].view(-1, batch_size).float().mean(1)
        assert ((shares > 0) & (shares < 1)).sum() <= 1
        kinds.append(tuple(shares.tolist()))
    assert len(waiting) > 5 or 11 % batch_size == 0
    assert len(set(kinds)) > 2 or batch_size in (11,)  # the kinds come in another order


def test_the_batches_draw_their_short_sides_from_the_list(root):
    sides = []
    for images, labels in itertools.islice(endless(training(root, short_sides=[16, 32, 64], multiple=4)), 40):
        height, width = images.shape[2:]
        counted = labels != IGNORED
        for each in counted:
            side = min(int(each.any(1).sum()), int(each.any(0).sum()))
            assert side in (16, 32, 64)
            sides.append(side)
        assert height % 4 == width % 4 == 0
        assert len(set(sides[-2:])) == 1
    assert all(sides.count(side) > 10 for side in (16, 32, 64))


def test_the_longest_side_is_bounded(root):
    batches = itertools.islice(endless(training(root, short_sides=[40], longest=48, multiple=1)), 10)
    sides = [max(images.shape[2:]) for images, _ in batches]
    assert max(sides) == 48


def test_shape_is_that_of_the_largest_batch(root):
    for options in ({"batch_size": 1}, {"batch_size": 11}):
        data = dataset(root, short_sides=[20, 28], longest=40, multiple=8)
        batches = itertools.islice(endless(training(root, short_sides=[20, 28], longest=40, **options)), 60)
        shapes = [tuple(images.shape[2:]) for images, _ in batches]
        assert data.shape == (40, 40)
        assert (max(height for height, _ in shapes), max(width for _, width in shapes)) == (40, 40)
        assert data.size == 40
    assert dataset(root, crop=[32, 40]).shape == (32, 40)
    assert dataset(root, scale=[0.5, 2.0]).shape == (88, 72)
    assert dataset(root).shape == (48, 40)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_labels_at_a_fraction_are_those_in_the_middle_of_their_pixels(root, stride):
    whole = training(root, short_sides=[31])
    coarse = training(root, short_sides=[31], label_stride=stride)
    for (images, labels), (same, few) in zip(whole, coarse, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(few, labels[:, stride // 2 :: stride, stride // 2 :: stride])
        size = (labels.shape[1] // stride, labels.shape[2] // stride)
        pillow = [Image.fromarray(each.numpy().astype(np.uint8)).resize(size[::-1], 0) for each in labels]
        assert torch.equal(few, torch.stack([torch.from_numpy(np.array(each)).long() for each in pillow]))


def test_the_published_colours_are_blue_green_red_less_their_mean(root):
    for (images, labels), (plain, same) in zip(
        training(root, colors="published", **WHOLE), training(root, **WHOLE), strict=True
    ):
        assert torch.equal(labels, same)
        pixels = pixels_of(plain).round()
        expected = pixels.flip(1) - torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
        beside = (plain == 0).all(1, keepdim=True).expand_as(plain)
        torch.testing.assert_close(images[~beside], expected[~beside], rtol=0, atol=1e-4)
        assert (images[beside] == 0).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "lanczos"])
def test_pictures_are_resized_and_normalized_as_is_asked_for(root, interpolation):
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    options = {"short_sides": [31], "flip": False}
    asked = {"interpolation": interpolation, "mean": mean.flatten().tolist(), "std": std.flatten().tolist()}
    ours = training(root, **options, **asked)
    for (images, labels), (plain, same) in zip(ours, training(root, **options), strict=True):
        assert torch.equal(labels, same)
        beside = (plain == 0).all(1, keepdim=True).expand_as(plain)
        assert (images[beside] == 0).all()
        pixels = (images * std + mean) * 255
        torch.testing.assert_close(pixels[~beside], pixels[~beside].round(), rtol=0, atol=1e-3)
    reader = ours.reader
    picture = reader.read_pair.picture(0)
    expected = np.array(picture.resize((37, 29), getattr(Image.Resampling, interpolation.upper())))
    found = reader.read(CropRequest(0, 0, [0], [(29, 37)], (32, 40))).images[0, :, :29, :37]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


def test_colours_are_jittered_alike_whatever_else_is_asked_for(root):
    plain, jittered = (list(training(root, color_jitter=strength, flip=False)) for strength in (0.0, 0.4))
    for (images, labels), (changed, same) in zip(plain, jittered, strict=True):
        assert torch.equal(labels, same)
        assert all((one != other).any() for one, other in zip(images, changed, strict=True))


@pytest.mark.parametrize("options", [EVERYTHING, WHOLE])
@pytest.mark.parametrize("steps", [None, 3, 8])
def test_training_continues_at_any_place_with_the_very_next_batch(root, options, steps):
    whole = list(itertools.islice(endless(training(root, **options)), 16))  # 5 to a pass
    assert_same(list(itertools.islice(endless(training(root, steps=steps, **options)), 16)), whole)
    for number in range(16):
        resumed = training(root, steps=steps, **options)
        length = len(resumed)
        resumed.load_state_dict({"epoch": number // length, "position": number % length})
        assert_same(list(itertools.islice(endless(resumed), 1)), whole[number : number + 1])


@pytest.mark.parametrize("options", [EVERYTHING, WHOLE])
def test_passes_and_seeds_differ(root, options):
    first, second = (list(epoch) for epoch in itertools.tee(itertools.islice(endless(training(root, **options)), 10)))
    other = list(training(root, seed=8, **options))
    passes = first[:5], second[5:], other
    for one, another in itertools.combinations(passes, 2):
        assert not all(a.shape == b.shape and torch.equal(a, b) for (a, _), (b, _) in zip(one, another, strict=True))


@pytest.mark.parametrize("options", [EVERYTHING, WHOLE])
@pytest.mark.parametrize("world", [2, 4])
def test_the_processes_share_the_batch_of_one_process(root, options, world):
    def batches(**share):
        return list(itertools.islice(endless(training(root, batch_size=4, **share, **options)), 4))

    shares = [batches(rank=rank, world=world) for rank in range(world)]
    joined = [tuple(torch.cat(parts) for parts in zip(*each, strict=True)) for each in zip(*shares, strict=True)]
    assert_same(joined, batches())


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_reads_the_same(root, workers):
    def batches(workers):
        return list(training(root, workers=workers, steps=7, **EVERYTHING))

    assert_same(batches(workers), batches(0))


def test_the_runs_own_generator_is_not_drawn_from(root):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for workers in (0, 1):
        list(training(root, workers=workers, **EVERYTHING))
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_and_batches_that_do_not_fit_are_refused(root):
    with pytest.raises(InputError, match="batch size 12 is larger than the training set, 11 images"):
        training(root, batch_size=12)
    with pytest.raises(InputError, match="batch size 4 cannot be shared evenly by 3 processes"):
        training(root, batch_size=4, world=3)
    with pytest.raises(InputError, match="steps must be at least 1"):
        training(root, steps=0)


def test_camvid():
    folder = real_data("camvid")
    data = dataset_of_camvid(folder, flip=False)
    assert (data.train_size, data.test_size, data.shape) == (367, 101, (360, 480))
    images, labels = next(iter(data.train_batches(batch_size=4, seed=0)))
    index = data.train_batches(batch_size=4, seed=0)._order(0, "cpu")[:4].tolist()
    names = sorted(path.stem for path in (folder / "train").iterdir())
    for place, image, label in zip(index, images, labels, strict=True):
        picture, mask = (
            Image.open(folder / where) for where in (f"train/{names[place]}.jpg", f"trainannot/{names[place]}.png")
        )
        torch.testing.assert_close(pixels_of(image), TF.pil_to_tensor(picture).float(), rtol=0, atol=1e-3)
        numbers = torch.from_numpy(np.array(mask)).long()
        assert torch.equal(label, numbers.masked_fill(numbers == 11, IGNORED))
    small = dataset_of_camvid(folder, short_sides=[180], label_stride=8)
    assert small.shape == (184, 240)
    images, labels = next(iter(small.train_batches(batch_size=4, seed=0)))
    assert (images.shape, labels.shape) == ((4, 3, 184, 240), (4, 23, 30))
    assert (images[:, :, 180:] == 0).all()


def dataset_of_camvid(folder, **options):
    from switchnorm.data import create_dataset

    return create_dataset("camvid", root=str(folder), workers=0, **options)


@pytest.mark.gpu
def test_a_gpu_gets_the_same_batches(root):
    data = dataset(root, workers=1, **EVERYTHING)
    places = [Share(device=device) for device in ("cuda", "cpu")]
    on_gpu, on_cpu = (data.train_batches(batch_size=2, seed=7, share=share) for share in places)
    for (images, labels), (expected, same) in zip(on_gpu, on_cpu, strict=True):
        assert images.is_cuda
        torch.testing.assert_close(images.cpu(), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(labels.cpu(), same)
    scenes = zip(*(data.test_batches(batch_size=2, share=share) for share in places), strict=True)
    for one, other in ((one, other) for batches in scenes for one, other in zip(*batches, strict=True)):
        assert (one.index, one.size) == (other.index, other.size)
        assert torch.equal(one.target.cpu(), other.target)
        for picture, expected in zip(one.pictures, other.pictures, strict=True):
            torch.testing.assert_close(picture.cpu(), expected, rtol=1e-5, atol=1e-5)
