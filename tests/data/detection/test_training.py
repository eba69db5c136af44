"""Training batches: boxes and masks stay with the pixels, and everything is a function of (seed, pass, index)."""

import itertools

import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from torchvision import tv_tensors
from torchvision.transforms import v2

from switchnorm.data.augment.sizes import fitted
from switchnorm.data.counter import Stream, integers, permutation, seeds, uniform
from switchnorm.data.detection.training_reader import TrainingRequest
from switchnorm.errors import InputError
from tests.data.detection.painted import (
    COLORS,
    SIZES,
    assert_same_batches,
    dataset,
    painted,
    pixels_of,
    shown_as,
    things_of,
    training,
)
from tests.data.segmentation.mapped import endless, refused

#: Ways to augment, by what is special about them.
WAYS = {
    "plain": {"flip": "none"},
    "short sides": {"short_sides": [40, 56, 96], "longest": 130},
    "own sizes": {"short_sides": []},
    "both mirrors": {"flip": "both"},
    "jitter": {"scale": [0.4, 2.0], "crop": 96},
    "mosaic": {"mosaic": 1.0, "short_sides": [72], "flip": "both"},
    "mosaic of windows": {"mosaic": 0.6, "scale": [0.4, 2.0], "crop": 96},
    "colours": {"color_jitter": 0.1},
    "no empty ones": {"empty": "drop"},
}
PASTED = {
    "pasted": {"copy_paste": 1.0, "short_sides": [96]},
    "pasted windows": {"copy_paste": 1.0, "scale": [0.4, 2.0], "crop": 96},
    "all": {"copy_paste": 0.7, "mosaic": 0.5, "scale": [0.4, 2.0], "crop": 96, "flip": "both", "color_jitter": 0.1},
}
EVERYTHING = PASTED["all"]


@pytest.mark.parametrize("way", [*WAYS, *PASTED])
def test_boxes_and_masks_follow_their_pixels(root, way):
    has_masks = "masks" in root.name
    if way in PASTED and not has_masks:
        refused("copy_paste .* needs masks", lambda: training(root, **PASTED[way]))
        return
    count = 0
    for images, targets in itertools.islice(endless(training(root, **{**WAYS, **PASTED}[way])), 8):
        assert images.dtype == torch.float32
        assert all(side % 32 == 0 for side in images.shape[2:])
        for image, target in zip(images, targets, strict=True):
            assert_follows(image, target, has_masks)
            count += len(target["boxes"])
    assert count > 12


def assert_follows(image, target, has_masks):
    """Each colour is where its boxes or masks say, and nowhere else."""
    names = {"boxes", "labels", "ignored", "size", "draw"} | ({"masks"} if has_masks else set())
    assert target.keys() == names
    kinds = {"boxes": torch.float32, "ignored": torch.float32, "labels": torch.int64, "masks": torch.uint8}
    assert all(target[name].dtype == kinds.get(name, torch.int64) for name in names)
    count, (height, width) = len(target["boxes"]), target["size"].tolist()
    assert target["boxes"].shape == (count, 4)
    assert target["ignored"].shape[1:] == (4,)
    assert (image[:, height:] == 0).all()
    assert (image[:, :, width:] == 0).all()
    for boxes in (target["boxes"], target["ignored"]):
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
    canvas = image.shape[1:]
    regions = (
        [mask.bool() for mask in target["masks"]] if has_masks else [inside(box, canvas) for box in target["boxes"]]
    )
    if has_masks:
        assert target["masks"].shape == (count, *canvas)
        for box, mask in zip(target["boxes"], regions, strict=True):
            found = torch.stack([part for side in bounds(mask) for part in side]).view(2, 2).T.flatten()
            assert (box - found[[0, 1, 2, 3]]).abs().max() < 2.6, (box, found)
    pixels = pixels_of(image)
    labels = target["labels"].tolist()
    for label in range(1, len(COLORS) + 1):
        expected = together([region for region, own in zip(regions, labels, strict=True) if own == label], canvas)
        shown = shown_as(pixels, label)
        assert not (shown & ~spread(expected)).any(), label
        if not has_masks:
            assert not (shrunk(expected) & ~shown).any(), label
    if has_masks:  # what lies below others is none of its mask
        drawn = [shown_as(pixels, label) for label in labels]
        assert all(not (shrunk(region) & ~shown).any() for region, shown in zip(regions, drawn, strict=True))
        assert len(regions) < 2 or int(torch.stack(regions).sum(0).max()) <= 1
    crowds = together([inside(box, canvas) for box in target["ignored"]], canvas)
    assert not (shown_as(pixels, 0) & ~spread(crowds)).any()


def inside(box, size):
    """(H, W) bool: the pixels whose middles lie in a box."""
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    x1, y1, x2, y2 = box
    return ((rows > y1) & (rows < y2))[:, None] & ((columns > x1) & (columns < x2))


def bounds(mask):
    """The least and the greatest edge of a mask across, then down."""
    return [(found[0].float(), found[-1].float() + 1) for found in (mask.any(axis).nonzero()[:, 0] for axis in (0, 1))]


def together(regions, size):
    return torch.stack([torch.zeros(tuple(size), dtype=torch.bool), *regions]).any(0)


def spread(region, by=3):
    return F.max_pool2d(region[None].float(), 2 * by + 1, 1, by)[0] > 0


def shrunk(region, by=3):
    """Without its rim, also at the border of the image."""
    return ~spread(F.pad(~region, (1, 1, 1, 1), value=True), by)[1:-1, 1:-1]


@pytest.mark.parametrize("way", ["short sides", "both mirrors", "jitter", "colours"])
def test_batches_are_torchvisions_transforms_under_the_counters_numbers(boxed, way):
    options = {"flip": "horizontal", "longest": 320, "color_jitter": 0.0, "short_sides": [48], **WAYS[way]}
    batches = training(boxed, **WAYS[way])
    for pass_index in (0, 1):
        order = batches._order(pass_index, "cpu")
        for place, (images, targets) in enumerate(batches):
            for number in (0, 1):
                index = order[2 * place + number]
                pixels, boxes, labels, ignored = changed(pass_index, place, index, options)
                target = targets[number]
                height, width = pixels.shape[1:]
                assert target["size"].tolist() == [height, width]
                assert target["labels"].tolist() == labels
                torch.testing.assert_close(target["boxes"], boxes, rtol=0, atol=1e-3)
                torch.testing.assert_close(target["ignored"], ignored, rtol=0, atol=1e-3)
                shown = pixels_of(images[number])[:, :height, :width]
                torch.testing.assert_close(shown, pixels.float(), rtol=0, atol=1e-3)
                assert int(target["draw"]) == seeds(7, pass_index, index[None], Stream.SAMPLING)[0]


def changed(pass_index, place, index, options):
    """What must become of a picture and its boxes."""
    one = index[None]
    size = SIZES[index]
    things = things_of(int(index), size)
    picture = tv_tensors.Image(torch.from_numpy(painted(size, things, masks=False)).permute(2, 0, 1))
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor([thing.box for thing in things], dtype=torch.float32).view(-1, 4), format="XYXY", canvas_size=size
    )
    if "crop" in options:
        low, high = options["scale"]
        factor = (low + (high - low) * float(uniform(7, pass_index, one, Stream.SCALE))) * options["crop"] / max(size)
        new = [max(round(side * factor), 1) for side in size]
    else:
        sides = options["short_sides"]
        side = sides[int(integers(7, pass_index, torch.tensor([place]), Stream.SHORT_SIDE, len(sides)))]
        new = list(fitted(size, side, options["longest"]))
    picture, boxes = TF.resize(picture, new), TF.resize(boxes, new)
    if "crop" in options:
        window = [min(side, options["crop"]) for side in new]
        numbers = [float(uniform(7, pass_index, one, stream)) for stream in (Stream.WINDOW_TOP, Stream.WINDOW_LEFT)]
        top, left = (int(number * (side - shown + 1)) for number, side, shown in zip(numbers, new, window, strict=True))
        picture, boxes = TF.crop(picture, top, left, *window), TF.crop(boxes, top, left, *window)
    if uniform(7, pass_index, one, Stream.FLIP) < 0.5:
        picture, boxes = TF.horizontal_flip(picture), TF.horizontal_flip(boxes)
    if options["flip"] == "both" and uniform(7, pass_index, one, Stream.FLIP_VERTICAL) < 0.5:
        picture, boxes = TF.vertical_flip(picture), TF.vertical_flip(boxes)
    if options["color_jitter"]:
        torch.manual_seed(*seeds(7, pass_index, one, Stream.COLOR))
        picture = v2.ColorJitter(*[options["color_jitter"]] * 3)(picture)
    boxes = torch.Tensor(TF.clamp_bounding_boxes(boxes))
    left = [place for place, box in enumerate(boxes) if box[2] > box[0] and box[3] > box[1]]
    single, crowds = ([place for place in left if things[place].crowd == crowd] for crowd in (False, True))
    return picture, boxes[single], [things[place].label for place in single], boxes[crowds]


def test_without_options_a_batch_is_the_files_padded(boxed):
    seen = []
    for images, targets in training(boxed, flip="none", short_sides=[]):
        for image, target in zip(images, targets, strict=True):
            size = tuple(target["size"].tolist())
            (place,) = (
                place
                for place in range(len(SIZES))
                if SIZES[place] == size and torch.equal(pixels_of(image)[:, : size[0], : size[1]].round(), file(place))
            )
            things = [thing for thing in things_of(place, size) if not thing.crowd]
            assert target["boxes"].tolist() == [list(thing.box) for thing in things]
            assert target["labels"].tolist() == [thing.label for thing in things]
            seen.append(place)
    assert sorted(seen) == sorted(permutation(7, 0, len(SIZES))[:10].tolist())


def file(place):
    return torch.from_numpy(painted(SIZES[place], things_of(place, SIZES[place]), masks=False)).permute(2, 0, 1).float()


def test_upright_and_wide_pictures_come_apart(boxed):
    upright = torch.tensor([height > width for height, width in SIZES])
    batches = training(boxed, batch_size=3)
    for pass_index in range(8):
        shares = upright[batches._order(pass_index, "cpu")].view(-1, 3).float().mean(1)
        assert ((shares > 0) & (shares < 1)).sum() <= 1


@pytest.mark.parametrize("empty", ["keep", "drop"])
def test_pictures_without_objects_are_kept_or_dropped(boxed, empty):
    data = dataset(boxed, empty=empty)
    things = [things_of(place, size) for place, size in enumerate(SIZES)]
    some = sum(any(not thing.crowd for thing in on_it) for on_it in things)
    assert data.train_size == (len(SIZES) if empty == "keep" else some)
    counts = [len(target["boxes"]) for _, targets in training(boxed, batch_size=1, empty=empty) for target in targets]
    assert len(counts) == data.train_size
    assert (0 in counts) == (empty == "keep")
    assert data.test_size == 5


def test_shape_is_that_of_the_largest_batch(boxed):
    options = {"short_sides": [20, 60], "longest": 70}
    shapes = [images.shape[2:] for images, _ in itertools.islice(endless(training(boxed, batch_size=1, **options)), 60)]
    assert dataset(boxed, test_side=20, **options).shape == tuple(max(sides) for sides in zip(*shapes, strict=True))
    jittered = dataset(boxed, scale=[0.1, 2.0], crop=64)
    assert (jittered.shape, jittered.size) == ((64, 64), 64)
    for images, _ in training(boxed, scale=[0.1, 2.0], crop=64):
        assert images.shape[2:] == (64, 64)
    assert dataset(boxed.parent / "nowhere").shape == (64, 64)


WAYS_TO_READ = {"short sides": WAYS["short sides"], "all": EVERYTHING}


@pytest.mark.parametrize("way", WAYS_TO_READ)
def test_training_continues_at_any_place_with_the_very_next_batch(masked, way):
    options = WAYS_TO_READ[way]
    whole = list(itertools.islice(endless(training(masked, **options)), 11))  # 5 to a pass
    assert_same_batches(list(itertools.islice(endless(training(masked, steps=3, **options)), 7)), whole[:7])
    for steps, numbers in ((None, (1, 4, 5, 10)), (3, (2, 3, 7))):
        for number in numbers:
            resumed = training(masked, steps=steps, **options)
            resumed.load_state_dict({"epoch": number // len(resumed), "position": number % len(resumed)})
            assert_same_batches(list(itertools.islice(endless(resumed), 1)), whole[number : number + 1])


@pytest.mark.parametrize("way", WAYS_TO_READ)
def test_passes_and_seeds_differ(masked, way):
    options = WAYS_TO_READ[way]
    whole = list(itertools.islice(endless(training(masked, **options)), 10))
    passes = whole[:5], whole[5:], list(training(masked, seed=8, **options))
    keys = [[int(target["draw"]) for _, targets in each for target in targets] for each in passes]
    assert len({key for some in keys for key in some}) == 30
    for one, another in itertools.combinations(passes, 2):
        pairs = zip(one, another, strict=True)
        assert not all(a.shape == b.shape and torch.equal(a, b) for (a, _), (b, _) in pairs)


@pytest.mark.parametrize("way", WAYS_TO_READ)
@pytest.mark.parametrize("world", [2, 3])
def test_the_processes_share_the_batch_of_one_process(masked, way, world):
    def batches(**share):
        return list(itertools.islice(endless(training(masked, batch_size=6, **share, **WAYS_TO_READ[way])), 3))

    shares = [batches(rank=rank, world=world) for rank in range(world)]
    joined = [
        (torch.cat([images for images, _ in parts]), [target for _, targets in parts for target in targets])
        for parts in zip(*shares, strict=True)
    ]
    assert_same_batches(joined, batches())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.sweep), 3])
def test_any_number_of_workers_reads_the_same(masked, workers):
    def batches(workers):
        return list(training(masked, workers=workers, steps=7, **EVERYTHING))

    assert_same_batches(batches(workers), batches(0))


def test_the_runs_own_generator_is_not_drawn_from(masked):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(training(masked, **EVERYTHING))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("way", WAYS_TO_READ)
def test_a_picture_is_changed_alike_alone_and_in_any_batch(masked, way):
    reader = training(masked, batch_size=5, **WAYS_TO_READ[way]).reader
    canvas = (96, 320)

    def alone(place):
        return reader.read(TrainingRequest(1, 3, [place], canvas))

    singles = [alone(place) for place in range(11)]
    try:
        for threads, places in ((1, [4, 0, 7, 10, 2]), (3, [*range(11)][::-1])):
            torch.set_num_threads(threads)
            read = reader.read(TrainingRequest(1, 3, places, canvas))
            expected = [singles[place] for place in places]
            for name in ("images", "boxes", "labels", "ignored", "masks"):
                assert torch.equal(getattr(read, name), torch.cat([getattr(one, name) for one in expected])), name
            for name in ("sizes", "filled", "keys", "counts", "patches"):
                assert getattr(read, name) == [entry for one in expected for entry in getattr(one, name)], name
    finally:
        torch.set_num_threads(1)


def test_batches_that_do_not_fit_are_refused(boxed):
    with pytest.raises(InputError, match="batch size 12 is larger than the training set, 11 images"):
        training(boxed, batch_size=12)
    with pytest.raises(InputError, match="batch size 4 cannot be shared evenly by 3 processes"):
        training(boxed, batch_size=4, world=3)


def test_an_upright_picture_of_one_column_is_no_trouble(boxed):
    shapes = {tuple(images.shape[2:]) for images, _ in training(boxed, batch_size=1, short_sides=[2], longest=400)}
    assert (416, 32) in shapes
    assert (32, 416) in shapes


@pytest.mark.gpu
def test_a_gpu_gets_the_same_batches(masked):
    from switchnorm.data import Share

    data = dataset(masked, workers=1, **EVERYTHING)
    places = [Share(device=device) for device in ("cuda", "cpu")]
    on_gpu, on_cpu = (data.train_batches(batch_size=2, seed=7, share=share) for share in places)
    for (images, targets), (expected, others) in zip(on_gpu, on_cpu, strict=True):
        assert images.is_cuda
        torch.testing.assert_close(images.cpu(), expected, rtol=1e-5, atol=1e-5)
        for target, other in zip(targets, others, strict=True):
            assert all(torch.equal(target[name].cpu(), other[name]) for name in other)
            assert all(target[name].is_cuda == (name not in ("size", "draw")) for name in target)
