"""Batch independence: a picture is changed the same in any batch, at any place in it, by any number of threads."""

import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from switchnorm.data.augment.chain import chain
from switchnorm.data.augment.colors import Colors
from switchnorm.data.augment.crop_and_flip import crop_and_flip
from switchnorm.data.augment.erasing import erase, rectangles
from switchnorm.data.augment.lighting import PUBLISHED_COMPONENTS, lighting
from switchnorm.data.augment.normalization import Normalization
from switchnorm.data.augment.picture_crops import EvaluationCrops, TrainingCrops
from switchnorm.data.augment.policy import rand_augment
from switchnorm.data.augment.shrink import shrink
from switchnorm.data.counter import integers, normal, uniform
from switchnorm.data.detection import sizes as detection
from switchnorm.data.segmentation.scene_readers import CropRequest
from switchnorm.data.segmentation.sizes import TrainingSizes
from switchnorm.data.views import with_mirrors
from tests.data.photos import photo
from tests.data.segmentation.mapped import dataset, write_root

SEED, PASS = 3, 1
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

#: What is done to pixels, before and after their normalization: (N, 3, H, W) -> (N, ...).
PIXELS = {
    "crop and flip": functools.partial(crop_and_flip, padding=4),
    "RandAugment": functools.partial(rand_augment, operations=2, magnitude=12),
    "normalization": lambda images, *_: Normalization(MEAN, STD)(images),
    "published colours": lambda images, *_: Colors("published")(images),
    "smaller pictures": lambda images, *_: shrink(images, 8),
}
NORMALIZED = {
    "normalization of floats": lambda images, *_: Normalization((0.3, 0.2, 0.1), (0.7, 1.1, 0.3))(images),
    "lighting": functools.partial(lighting, deviation=0.1, std=(0.229, 0.224, 0.225)),
    "published lighting": functools.partial(
        lighting, deviation=0.1, std=(0.229, 0.224, 0.225), components=PUBLISHED_COMPONENTS
    ),
    "erasing": functools.partial(erase, probability=0.7),
    "both": chain(
        functools.partial(lighting, deviation=0.1, std=(0.229, 0.224, 0.225)), functools.partial(erase, probability=0.7)
    ),
    "mirrors": lambda images, *_: with_mirrors(images[:, None]),
}
#: What is drawn for a sample: index (N,) -> (N, ...).
DRAWN = {
    "uniform": lambda index: uniform(SEED, PASS, index, 7),
    "integers": lambda index: integers(SEED, PASS, index, 7, 1000),
    "normal": lambda index: normal(SEED, PASS, index, 7),
    "rectangles": lambda index: torch.stack(rectangles(SEED, PASS, index, (224, 224)), 1),
    "large-scale jitter": lambda index: torch.tensor(
        detection.TrainingSizes((), None, (0.1, 2.0), 1024).of_batch(SEED, PASS, 5, index, [(480, 641)] * len(index))
    ),
    "sizes": lambda index: torch.tensor(
        TrainingSizes((300, 375, 450), 1000, (0.5, 2.0), None, 8).of_batch(
            SEED, PASS, 5, index, torch.tensor([[480, 641]]).expand(len(index), 2)
        )
    ),
}


@pytest.fixture
def threads():
    """A function that sets the number of threads, which is 1 again at the end."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


def parts(total):
    """Ways to cut a batch: none, one by one, in odd pieces, from odd places on."""
    yield [range(total)]
    yield [[place] for place in range(total)]
    for size in (2, 3, 7, 13):
        yield [range(start, min(start + size, total)) for start in range(0, total, size)]
    yield [range(1), range(1, 6), range(6, total)]
    yield [range(total)[::-1]]


def shifted(images, by):
    """The same images, that many elements later in memory."""
    buffer = torch.empty(images.numel() + by, dtype=images.dtype)[by:]
    return buffer.copy_(images.flatten()).view(images.shape)


def assert_alone_and_together_alike(compute, total, threads, some=lambda cut: cut):
    """`compute(places)` gives a row for each place, whatever other places there are."""
    threads(1)
    alone = torch.cat([compute([place]) for place in range(total)])
    for count in (1, 2, 3):
        threads(count)
        for cut in some(list(parts(total))):
            for places in cut:
                assert torch.equal(compute(list(places)), alone[list(places)]), (count, len(places))


@pytest.mark.parametrize("name", [*PIXELS, *NORMALIZED])
def test_a_picture_is_changed_alike_alone_and_in_any_batch(name, threads):
    total = 39
    pixels = torch.randint(0, 256, (total, 3, 32, 32), dtype=torch.uint8)  # more numbers than one thread takes
    images = pixels if name in PIXELS else pixels.float() / 61 - 2
    operation = {**PIXELS, **NORMALIZED}[name]

    def compute(places):
        return operation(shifted(images[places], len(places) % 3), SEED, PASS, 5 + torch.tensor(places))

    assert_alone_and_together_alike(compute, total, threads)


class Roundings(TorchDispatchMode):
    """Notes the operations on floats that some processors round by the place in a tensor, or by its size."""

    DOUBTFUL = (
        *("mm", "addmm", "bmm", "mv", "dot", "sum", "mean", "std", "var", "softmax"),
        *("erfinv", "exp", "log", "pow", "sin", "cos", "lerp", "addcmul"),
    )

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__.strip("_")
        if name in self.DOUBTFUL and arguments[0].is_floating_point():
            self.found.add(name)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("name", [name for name in (*PIXELS, *NORMALIZED) if name != "RandAugment"])
def test_nothing_is_computed_that_another_processor_might_round_by_the_batch(name):
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8 if name in PIXELS else torch.float32)
    with Roundings() as watch:
        torch.ones(2).exp()
        {**PIXELS, **NORMALIZED}[name](images, SEED, PASS, torch.arange(2))
    assert watch.found == {"exp"}  # and that is the one above


@pytest.mark.parametrize("name", DRAWN)
def test_a_sample_draws_alike_alone_and_in_any_batch(name, threads):
    assert_alone_and_together_alike(lambda places: DRAWN[name](torch.tensor(places)), 301, threads)


CROPS = {
    "training": TrainingCrops(24, 28, 0.2, 0.4, 2, 12, None),
    "bicubic training": TrainingCrops(24, 28, 0.2, 0.4, 2, 12, None, interpolation="bicubic"),
    "plain training": TrainingCrops(24, 28, 0.2, 0.4, 0, 9, 0),
    "evaluation": lambda pictures, *_: torch.stack([EvaluationCrops(24, 28, "ten")(picture) for picture in pictures]),
    "bicubic evaluation": lambda pictures, *_: torch.stack(
        [EvaluationCrops(24, 28, "ten", "bicubic")(picture) for picture in pictures]
    ),
}


@pytest.mark.parametrize("name", CROPS)
def test_a_file_is_cut_alike_alone_and_in_any_batch(name, threads):
    pictures = [photo(seed, 240 + seed, 180) for seed in range(9)]

    def compute(places):
        return CROPS[name]([pictures[place] for place in places], SEED, PASS, torch.tensor(places))

    assert_alone_and_together_alike(compute, len(pictures), threads)


@pytest.mark.parametrize("interpolation", [None, "bicubic"])
@pytest.mark.parametrize("crop", [None, [160, 200]])
def test_a_picture_with_a_mask_is_changed_alike_alone_and_in_any_batch(tmp_path, crop, interpolation, threads):
    root = write_root(tmp_path, train=[(120, 150)] * 5, val=[(20, 20)])
    data = dataset(root, crop=crop, color_jitter=0.7, interpolation=interpolation)
    reader = data.train_batches(batch_size=5, seed=SEED).reader
    targets = [(181 + 7 * place, 223) for place in range(5)]

    def compute(places):
        crops = reader.read(CropRequest(PASS, 0, places, [targets[place] for place in places], (216, 224)))
        return torch.cat([crops.images, crops.labels[:, None]], 1)

    assert_alone_and_together_alike(compute, 5, threads, some=lambda cuts: cuts[:2])
