import itertools
import math

import pytest
import torch
from PIL import Image

from switchnorm.config.recipe import read_config, to_yaml
from switchnorm.data import Folder, Share
from switchnorm.data.augment.lighting import PUBLISHED_COMPONENTS, lighting
from switchnorm.data.augment.picture_crops import EvaluationCrops, TrainingCrops
from switchnorm.data.counter import permutation
from switchnorm.data.files.picture_file import read_picture
from switchnorm.errors import InputError
from tests.data.photos import MEAN, STD, folder, normalized, training


def endless(batches):
    while True:
        yield from batches


def assert_same(left, right):
    assert len(left) == len(right)
    for (left_images, left_labels), (right_images, right_labels) in zip(left, right, strict=True):
        assert torch.equal(left_images, right_images)
        assert torch.equal(left_labels, right_labels)


def joined(ranks):
    return [tuple(torch.cat(parts) for parts in zip(*shares, strict=True)) for shares in zip(*ranks, strict=True)]


def by_sample(batches, order):
    images = torch.cat([images for images, _ in batches])
    return dict(zip(order[: len(images)].tolist(), images, strict=True))


def test_evaluation_gives_every_picture_once_in_order_normalized(tree):
    data = folder(tree)
    batches = data.test_batches(batch_size=4)
    paths = sorted((tree / "val").rglob("*.jpg"))
    expected = torch.cat([EvaluationCrops(16, 20)(read_picture(str(path))) for path in paths])
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert (len(batches), [len(batch_labels) for _, batch_labels in batches]) == (3, [4, 4, 1])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(images, normalized(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("views", ["flip", "ten"])
def test_views_are_crops_and_then_their_mirrors(tree, views):
    data = folder(tree)
    (images, labels), *_ = data.test_batches(batch_size=4, views=views)
    crops = EvaluationCrops(16, 20, views)
    expected = torch.stack([crops(read_picture(data._test.paths[place])) for place in range(4)])
    half = {"flip": 1, "ten": 5}[views]
    assert images.shape == (4, 2 * half, 3, 16, 16)
    assert labels.shape == (4,)
    torch.testing.assert_close(images[:, :half], normalized(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(images[:, half:], images[:, :half].flip(-1))


def test_views_that_do_not_exist_are_refused(tree):
    with pytest.raises(InputError, match="views 'ten' needs pictures larger than the crops; set resize above 16"):
        folder(tree, resize=16).test_batches(batch_size=4, views="ten")
    with pytest.raises(InputError, match="views 'five' is unknown; choose 'centre', 'flip' or 'ten'"):
        folder(tree).test_batches(batch_size=4, views="five")


@pytest.mark.parametrize("views", ["centre", "ten"])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
def test_evaluation_shares_lose_and_repeat_nothing(tree, world, views):
    data = folder(tree)
    shares = [list(data.test_batches(batch_size=8, share=Share(rank, world), views=views)) for rank in range(world)]
    whole = list(data.test_batches(batch_size=8, views=views))
    assert {len(share) for share in shares} == {2}  # the second batch holds one picture: all but one share are empty
    assert_same(joined(shares), whole)


def test_training_batches_follow_the_permutation_and_the_options(tree):
    data = folder(tree)
    batches = data.train_batches(batch_size=4, seed=7, epochs=9)
    crops = TrainingCrops(16, 20, 0.08, 0.4, 0, 9, plain_from=4)
    assert len(batches) == 3
    for epoch in (0, 1):
        for place, (images, labels) in enumerate(batches):
            index = permutation(7, epoch, 12)[4 * place : 4 * place + 4]
            pixels = crops([read_picture(data._train.paths[i]) for i in index.tolist()], 7, epoch, index)
            lit = lighting(normalized(pixels), 7, epoch, index, deviation=0.1, std=(0.229, 0.224, 0.225))
            torch.testing.assert_close(images, lit, rtol=1e-5, atol=1e-5)
            assert torch.equal(labels, data._train.labels[index])


def test_lighting_adds_the_published_colours_where_they_are_asked_for(tree):
    (plain, index), (lit, same) = (
        (torch.cat(parts) for parts in zip(*training(tree, lighting=light), strict=True)) for light in (0, "published")
    )
    order = permutation(7, 0, 12)
    options = {"deviation": 0.1, "std": (0.229, 0.224, 0.225), "components": PUBLISHED_COMPONENTS}
    torch.testing.assert_close(lit, lighting(plain, 7, 0, order, **options), rtol=1e-5, atol=1e-5)
    assert torch.equal(index, same)


def test_without_augmentation_training_shows_what_evaluation_shows(tree):
    (images, labels), *_ = training(tree, augment=False)
    index = permutation(7, 0, 12)[:4].tolist()
    paths = [folder(tree)._train.paths[place] for place in index]
    expected = torch.cat([EvaluationCrops(16, 20)(read_picture(path)) for path in paths])
    torch.testing.assert_close(images, normalized(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(labels, folder(tree)._train.labels[index])


def test_random_erasing_leaves_the_mean_colour(tree):
    plain, erased = (torch.cat([images for images, _ in training(tree, random_erasing=share)]) for share in (0.0, 1.0))
    gone = (plain != erased).any(1, keepdim=True).expand_as(plain)
    assert gone.flatten(1).any(1).all()
    assert (erased[gone] == 0).all()


@pytest.mark.parametrize("world", [2, 4])
def test_the_processes_share_the_batch_of_one_process(tree, world):
    whole = list(training(tree))
    shares = [list(training(tree, rank=rank, world=world)) for rank in range(world)]
    assert_same(joined(shares), whole)


def test_the_batch_size_does_not_change_how_a_sample_is_augmented(tree):
    order = permutation(7, 0, 12)
    small, large = (by_sample(training(tree, batch_size=size, rand_augment=1), order) for size in (2, 5))
    assert all(torch.equal(small[sample], image) for sample, image in large.items())


@pytest.mark.parametrize("handed_out", range(8))
def test_a_loaded_state_continues_with_the_very_next_batch(tree, handed_out):
    whole = list(itertools.islice(endless(training(tree, epochs=2, plain_epochs=1)), 8))  # 3 to an epoch
    interrupted, resumed = (training(tree, epochs=2, plain_epochs=1) for _ in range(2))
    list(itertools.islice(endless(interrupted), handed_out))
    resumed.load_state_dict(interrupted.state_dict())
    assert_same(list(itertools.islice(endless(resumed), 8 - handed_out)), whole[handed_out:])


def is_plain(batches, tree):
    """Whether every image is a window of a resized picture, or its mirror."""
    windows = set()
    for path in (tree / "train").rglob("*.jpg"):
        for window in every_window(read_picture(str(path))):
            windows |= {tuple(view.flatten().tolist()) for view in (window, window.flip(-1))}
    pixels = torch.cat([(images * STD + MEAN).mul(255).round().to(torch.uint8) for images, _ in batches])
    return [tuple(image.flatten().tolist()) in windows for image in pixels]


def every_window(picture):
    crops = EvaluationCrops(20, 20)
    width, height = picture.size
    short = min(width, height)
    resized = picture.resize((int(20 * width / short), int(20 * height / short)), Image.Resampling.BILINEAR)
    pixels = torch.tensor(list(resized.tobytes()), dtype=torch.uint8).view(resized.height, resized.width, 3)
    assert resized.size != (20, 20) or torch.equal(crops(picture)[0], pixels.permute(2, 0, 1))
    return pixels.permute(2, 0, 1).unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)


@pytest.mark.parametrize(
    ("epoch", "epochs", "plain_epochs", "expected"),
    [
        (3, 9, 5, False),
        (4, 9, 5, True),
        (8, 9, 5, True),
        (8, 9, 0, False),
        (0, 9, 9, True),
        (0, 3, 5, True),
        (100, None, 5, False),
    ],
)
def test_the_last_epochs_are_plain_also_right_after_a_resume(tree, epoch, epochs, plain_epochs, expected):
    batches = training(tree, epochs=epochs, plain_epochs=plain_epochs, color_jitter=0.0, lighting=0.0)
    batches.load_state_dict({"epoch": epoch, "position": 0})
    plain = is_plain(batches, tree)
    assert len(plain) == 12
    assert all(plain) if expected else not any(plain)


def test_plain_crops_may_show_the_centre(tree):
    batches = training(tree, epochs=1, plain_epochs=1, plain_crop="centre", color_jitter=0.0, lighting=0.0)
    shown = torch.cat([images for images, _ in batches])
    centres = torch.cat([images for images, _ in folder(tree, val_folder="train").test_batches(batch_size=4)])
    which = [[torch.equal(picture, side) for side in (*centres, *centres.flip(-1))] for picture in shown]
    assert all(any(each) for each in which)
    assert any(any(each[: len(centres)]) for each in which)
    assert any(any(each[len(centres) :]) for each in which)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_is_a_window_in_the_sequence_of_passes(tree, steps, workers):
    def batches(**options):
        return folder(tree, workers=workers, random_erasing=0.5).train_batches(batch_size=4, seed=7, **options)

    count = 14 if workers == 0 else 7
    plain = list(itertools.islice(endless(batches()), count))  # 3 to a pass
    assert_same(list(itertools.islice(endless(batches(steps=steps)), count)), plain)
    resumed = batches(steps=steps)
    resumed.load_state_dict({"epoch": 4 // steps, "position": 4 % steps})
    assert_same([next(iter(resumed))], plain[4:5])


@pytest.mark.parametrize(("epochs", "steps", "plain_from"), [(9, None, 4), (9, 3, 4), (6, 4, 3), (10, 1, 0), (4, 4, 1)])
def test_plain_epochs_are_passes_whatever_an_epoch_is(tree, epochs, steps, plain_from):
    batches = folder(tree).train_batches(batch_size=4, seed=7, epochs=epochs, steps=steps)
    assert max(batches.reader.crops.plain_from, 0) == plain_from


def test_test_pictures_have_the_names_of_their_lists_or_of_their_folders(tree):
    names = [f"{name}/{number}.jpg" for name in ("cat", "dog", "fox") for number in range(3)]
    assert [folder(tree).test_name(place) for place in range(9)] == names
    (tree / "mine.txt").write_text("val/fox/1.jpg 0\n./val/cat/0.jpg 1\n")
    listed = folder(tree, val_list="mine.txt", train_folder="none")
    assert [listed.test_name(place) for place in range(2)] == ["val/fox/1.jpg", "./val/cat/0.jpg"]


@pytest.mark.parametrize("crop", [1.0, 0.875, 0.9, 0.7])
def test_crop_is_the_share_of_the_short_side_that_is_kept(tree, crop):
    ours = folder(tree, resize=None, crop=crop, size=21)
    assert ours.short_side == math.floor(21 / crop)
    same = folder(tree, resize=math.floor(21 / crop), size=21)
    for mine, theirs in zip(ours.test_batches(batch_size=9), same.test_batches(batch_size=9), strict=True):
        assert torch.equal(mine[0], theirs[0])


def test_pictures_are_normalized_and_resized_as_is_asked_for(tree):
    options = {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2], "interpolation": "bicubic"}
    images, _ = next(iter(folder(tree, **options).test_batches(batch_size=9)))
    paths = sorted((tree / "val").rglob("*.jpg"))
    pixels = torch.cat([EvaluationCrops(16, 20, "centre", "bicubic")(read_picture(str(path))) for path in paths])
    mean, std = (torch.tensor(options[name]).view(3, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(images, (pixels / 255 - mean) / std)
    plain = torch.cat([EvaluationCrops(16, 20)(read_picture(str(path))) for path in paths])
    assert not torch.equal(pixels, plain)


def test_light_changes_pixels_alike_whatever_they_are_normalized_by(tree):
    options = {"color_jitter": 0.0, "lighting": 0.1, "plain_epochs": 0}
    ours, theirs = (
        next(iter(training(tree, **options, **colors)))[0]
        for colors in ({}, {"mean": [0.5] * 3, "std": [0.5, 0.25, 0.2]})
    )
    mean, std = torch.tensor([0.5] * 3).view(3, 1, 1), torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    torch.testing.assert_close(ours * STD + MEAN, theirs * std + mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"resize": 15}, "resize must be at least 16, got 15"),
        ({"crop": 0.8}, "crop 0.8 and resize 20 say the same"),
        ({"resize": None, "crop": 1.01}, "crop must be between 0.01 and 1, got 1.01"),
        ({"resize": None, "crop": 0}, "crop must be between 0.01 and 1, got 0"),
        ({"resize": None, "size": 300}, "resize must be at least 300, got 256"),
        ({"interpolation": "bicubik"}, "interpolation 'bicubik' is unknown; did you mean 'bicubic'"),
        ({"mean": [0.5]}, "mean needs one number per channel, 3, got 1"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean must be finite numbers, got nan"),
        ({"std": [0.5, 0.0, 0.5]}, "std must be positive numbers, got 0.0"),
        ({"mean": [123.675, 116.28, 103.53]}, r"mean is for pixels in \[0, 1\], got 123.675; the nearest .* is 0.485"),
        ({"min_area": 0}, "min_area must be above 0 and at most 1, got 0"),
        ({"min_area": 1.5}, "min_area must be above 0 and at most 1, got 1.5"),
        ({"min_area": float("nan")}, "min_area must be above 0"),
        ({"plain_epochs": -1}, "plain_epochs must be at least 0, got -1"),
        ({"plain_crop": "center"}, "plain_crop must be 'random' or 'centre', got 'center'"),
        ({"color_jitter": 1.1}, "color_jitter must be between 0 and 1, got 1.1"),
        ({"lighting": -0.1}, "lighting must be a number of at least 0 or 'published', got -0.1"),
        ({"lighting": float("nan")}, "lighting must be a number of at least 0 or 'published', got nan"),
        ({"lighting": "publishd"}, "lighting must be a number of at least 0 or 'published', got 'publishd'"),
        ({"rand_augment": -1}, "rand_augment must be at least 0, got -1"),
        ({"magnitude": 31}, "magnitude must be between 0 and 30, got 31"),
        ({"random_erasing": 2}, "random_erasing must be between 0 and 1, got 2"),
        ({"augment": False, "rand_augment": 2}, "rand_augment 2 has no effect with augment false; set augment to true"),
        ({"augment": False, "random_erasing": 0.1}, "random_erasing 0.1 has no effect with augment false"),
        ({"on_damaged": "ignore"}, "on_damaged must be 'stop' or 'skip', got 'ignore'"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        folder("nowhere", **options)


@pytest.mark.parametrize(
    ("batch_size", "message"), [(13, "larger than the training set, 12"), (3, "shared evenly by 2")]
)
def test_batches_that_do_not_fit_are_refused(tree, batch_size, message):
    with pytest.raises(InputError, match=message):
        training(tree, batch_size=batch_size, world=2)


RECIPE = """
model: {name: resnet8}
data: {name: folder, root: photos, plain_epochs: 3, on_damaged: skip, workers: null}
train: {epochs: 1, batch_size: 4}
"""


def test_recipes_and_flags_take_the_options(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    flags = ["--data.rand-augment", "2", "--data.random-erasing=0.1", "--data.min_area", "0.35", "--data.workers", "3"]
    config = read_config(tmp_path / "r.yaml", flags)
    name, options = config.data["name"], {key: value for key, value in config.data.items() if key != "name"}
    assert name == "folder"
    assert Folder(**options) == Folder(
        "photos", plain_epochs=3, on_damaged="skip", rand_augment=2, random_erasing=0.1, min_area=0.35, workers=3
    )
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("light", ["0.1", "0", "published"])
def test_lighting_is_a_number_or_a_word_in_recipes_and_flags(tmp_path, light):
    expected = light if light == "published" else float(light)
    (tmp_path / "plain.yaml").write_text(RECIPE)
    (tmp_path / "lit.yaml").write_text(RECIPE.replace("root: photos", f"root: photos, lighting: {light}"))
    by_flag = read_config(tmp_path / "plain.yaml", [f"--data.lighting={light}"])
    by_key = read_config(tmp_path / "lit.yaml")
    assert by_flag.data["lighting"] == by_key.data["lighting"] == expected
    (tmp_path / "again.yaml").write_text(to_yaml(by_key))
    assert read_config(tmp_path / "again.yaml") == by_key


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.on_damaged", "ignore"], "data.on_damaged.*stop.*skip"),
        (["--data.lighting", "publishd"], "^data.lighting: .*float.*'published'.*publishd"),
        (["--data.plain_epochs", "many"], "data.plain_epochs"),
        (["--data.colour_jitter", "0"], "did you mean '--data.color_jitter'"),
    ],
)
def test_wrong_options_are_named(tmp_path, flags, message):
    (tmp_path / "r.yaml").write_text(RECIPE)
    with pytest.raises(InputError, match=message):
        read_config(tmp_path / "r.yaml", flags)
