import os
import pathlib
import pickle
import re
import urllib.error

import numpy as np
import pytest
import torch
import torchvision.datasets

from switchnorm.data import Cifar10, Cifar100
from switchnorm.data.augment.erasing import erase
from switchnorm.data.augment.policy import rand_augment
from switchnorm.data.counter import permutation
from switchnorm.errors import InputError
from tests.data.conftest import OfficialFiles


def dataset(official, root=None, **options):
    return {10: Cifar10, 100: Cifar100}[official.classes](root=str(root or official.root), **options)


def error_of(official):
    with pytest.raises(InputError) as caught:
        dataset(official).load()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("parent", [True, False])
def test_reads_the_official_files_from_their_folder_or_its_parent(official, form, parent):
    folder = getattr(official, form)()
    train, test = dataset(official, official.root if parent else folder).samples
    for samples, names in ((train, official.train_files), (test, [official.test_file])):
        images, labels = official.expected(names)
        assert torch.equal(samples.images, images)
        assert samples.labels.tolist() == labels


def test_pixels_are_normalized_by_what_is_asked_for(official):
    official.binary()
    own = dataset(official).samples[1]
    assert (own.mean, own.std) == tuple(
        tuple(255 * value for value in values) for values in (dataset(official).own_mean, dataset(official).own_std)
    )
    asked = dataset(official, mean=[0.5, 0.4, 0.3]).samples[1]
    assert (asked.mean, asked.std) == ((127.5, 102.0, 76.5), own.std)
    for options, message in (
        ({"mean": [0.5]}, "mean needs one number per"),
        ({"std": [0.5, 0, 0.5]}, "std must be pos"),
    ):
        with pytest.raises(InputError, match=message):
            dataset(official, **options)


def test_the_colours_are_said_once():
    with pytest.raises(InputError, match="normalization 'cifar10' is a mean and deviation, and so are mean and std"):
        Cifar100(normalization="cifar10", std=[0.5] * 3)


def test_a_renamed_folder_is_recognized_by_its_files(official):
    renamed = official.binary().rename(official.root.parent / "elsewhere")
    assert len(dataset(official, renamed).samples[1]) == 3


def test_the_home_folder_is_understood(official10, monkeypatch):
    official10.binary()
    monkeypatch.setenv("HOME", str(official10.root.parent))
    assert len(dataset(official10, "~/root").samples[1]) == 3


def test_pixels_are_red_green_blue_planes_of_rows(official10):
    folder = official10.binary()
    pixels = np.arange(3072, dtype=np.uint8)
    (folder / "test_batch.bin").write_bytes(bytes([9]) + pixels.tobytes())
    test = dataset(official10).samples[1]
    assert test.labels.tolist() == [9]
    assert test.images[0, 2, 3, 4] == (2 * 1024 + 3 * 32 + 4) % 256


def test_images_are_normalized_by_the_published_statistics(official10):
    official10.binary()
    ((images, _),) = dataset(official10).test_batches(batch_size=3)
    pixels = official10.expected(["test_batch"])[0].double() / 255
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    torch.testing.assert_close(images.double(), (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("normalization", "mean", "std"),
    [
        ("own", [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    ],
)
def test_cifar100_is_normalized_by_its_own_statistics_or_by_cifar10s(tmp_path, normalization, mean, std):
    official = OfficialFiles(tmp_path / "root", 100)
    official.binary()
    data = dataset(official, normalization=normalization, augment=False)
    (((images, _),), ((training, _),)) = data.test_batches(batch_size=3), data.train_batches(batch_size=3, seed=0)
    for found, name in ((images, "test"), (training[permutation(0, 0, 3).argsort()], "train")):
        pixels = official.expected([name])[0].double() / 255
        expected = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_normalization_is_an_option_of_cifar100_alone():
    with pytest.raises(InputError, match="normalization must be 'own' or 'cifar10', got 'imagenet'"):
        Cifar100(normalization="imagenet")
    with pytest.raises(TypeError, match="normalization"):
        Cifar10(normalization="own")
    assert Cifar100().normalization == "own"


@pytest.mark.parametrize("size", [16, 8])
def test_smaller_pictures_are_averages_of_blocks(official10, size):
    official10.binary()
    whole, small = dataset(official10), dataset(official10, size=size)
    assert small.size == size
    block = 32 // size
    for original, samples in zip(whole.samples, small.samples, strict=True):
        pixels = original.images.numpy().reshape(-1, 3, size, block, size, block).mean((3, 5))
        # Halves are rounded to even, as numpy does.
        assert np.array_equal(samples.images.numpy(), np.round(pixels).astype(np.uint8))
        assert torch.equal(samples.labels, original.labels)
    ((images, _),) = small.train_batches(batch_size=len(small.samples[0].labels), seed=0)
    assert images.shape[2:] == (size, size)


def test_training_batches_are_augmented_unless_told_otherwise(official):
    official.binary()
    plain, augmented = (
        next(iter(dataset(official, augment=augment).train_batches(batch_size=3, seed=0))) for augment in (False, True)
    )
    assert torch.equal(plain[1], augmented[1])
    assert not torch.equal(plain[0], augmented[0])


def test_further_augmentation_follows_the_crop(official10):
    official10.binary()

    def batch(**options):
        return next(iter(dataset(official10, **options).train_batches(batch_size=15, seed=3)))

    (cropped, labels), (changed, same) = batch(), batch(rand_augment=2, magnitude=12)
    index = permutation(3, 0, 15)
    mean, std = (torch.tensor(getattr(Cifar10, name)).view(3, 1, 1) for name in ("own_mean", "own_std"))
    pixels = ((cropped * std + mean) * 255).round().to(torch.uint8)
    expected = rand_augment(pixels, 3, 0, index, operations=2, magnitude=12)
    torch.testing.assert_close(changed, (expected / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batch(random_erasing=0.5)[0], erase(cropped, 3, 0, index, probability=0.5))
    assert torch.equal(labels, same)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 20}, "size 20 is none that pictures of 32 x 32 average to; the nearest is 16"),
        ({"random_erasing": 1.5}, "random_erasing must be between 0 and 1, got 1.5"),
        ({"rand_augment": -1}, "rand_augment must be at least 0, got -1"),
        ({"magnitude": 31}, "magnitude must be between 0 and 30, got 31"),
        ({"augment": False, "rand_augment": 1}, "rand_augment 1 has no effect with augment false"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Cifar10(**options)


@pytest.mark.parametrize("form", ["binary", "python"])
def test_a_missing_file_is_named(official, form):
    folder = getattr(official, form)()
    path = folder / (official.test_file + (".bin" if form == "binary" else ""))
    path.unlink()
    message = error_of(official)
    assert message.startswith(
        f"{path} is missing: CIFAR-{official.classes}'s {form.replace('python', 'Python')} version"
    )
    assert message.endswith(path.name)


def test_an_empty_folder_of_the_published_name_is_not_replaced_by_a_download(official10):
    (official10.root / "cifar-10-batches-bin").mkdir(parents=True)
    assert "data_batch_1.bin is missing" in error_of(official10)


@pytest.mark.parametrize("size", [0, 1, 3 * 3073 - 1])
def test_a_binary_file_of_a_wrong_size_is_named(official10, size):
    path = official10.binary() / "data_batch_3.bin"
    os.truncate(path, size)
    expected = f"{path} is truncated or not CIFAR-10's binary version: it has {size} bytes, "
    assert error_of(official10) == expected + "expected whole records of 3073 bytes"


@pytest.mark.parametrize(("form", "suffix"), [("binary", ".bin"), ("python", "")])
def test_a_label_out_of_range_is_named(official, form, suffix):
    official.content[official.test_file][1][1:] = [official.classes, official.classes + 1]
    folder = getattr(official, form)()
    expected = f"{folder / official.test_file}{suffix}: record 1 (the first is 0) has label {official.classes}; "
    assert error_of(official) == expected + f"labels run from 0 to {official.classes - 1}"


def test_a_negative_label_is_named(official10):
    official10.content["test_batch"][1][2] = -1
    official10.python()
    assert "record 2 (the first is 0) has label -1" in error_of(official10)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_pickle_that_asks_for_code_is_refused_before_it_runs(official10, tmp_path):
    folder = official10.python()
    pickle.loads(pickle.dumps(Malicious(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()  # what happens when a pickle is trusted
    with (folder / "data_batch_2").open("wb") as file:
        pickle.dump({b"data": Malicious(tmp_path / "harm")}, file)
    message = error_of(official10)
    assert not (tmp_path / "harm").exists()
    assert re.match(rf"{folder}/data_batch_2 is truncated or not .*: it asks for '\S+'", message)


def test_a_truncated_pickle_is_named(official10):
    path = official10.python() / "data_batch_1"
    os.truncate(path, path.stat().st_size // 2)
    assert error_of(official10).startswith(f"{path} is truncated or not CIFAR-10's Python version")


PIXELS = np.zeros((2, 3072), dtype=np.uint8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "expected images under 'data', (n, 3072) uint8"),
        ({}, "expected images under 'data', (n, 3072) uint8"),
        ({b"data": [0] * 3072, b"labels": [0]}, "expected images under 'data', (n, 3072) uint8"),
        ({b"data": PIXELS.astype(np.int16), b"labels": [0, 0]}, "expected images under 'data', (n, 3072) uint8"),
        ({b"data": PIXELS[:, 1:], b"labels": [0, 0]}, "expected images under 'data', (n, 3072) uint8"),
        ({b"data": PIXELS[:0], b"labels": []}, "expected images under 'data', (n, 3072) uint8"),
        ({b"data": PIXELS}, "expected 2 integers under 'labels'"),
        ({b"data": PIXELS, b"labels": [0]}, "expected 2 integers under 'labels'"),
        ({b"data": PIXELS, b"labels": [0, 0.5]}, "expected 2 integers under 'labels'"),
    ],
)
def test_a_foreign_pickle_is_named(official10, write_pickle, content, expected):
    path = official10.python() / "data_batch_1"
    write_pickle(path, content)
    assert error_of(official10) == f"{path} is not CIFAR-10's Python version: {expected}"


def test_absent_files_are_downloaded_once(official, monkeypatch):
    calls = []

    def download(root, *, download):
        assert download
        calls.append(root)
        official.python().rename(pathlib.Path(root) / dataset(official).versions[-1].folder)

    monkeypatch.setattr(torchvision.datasets, f"CIFAR{official.classes}", download)
    assert len(dataset(official).samples[1]) == 3
    assert len(dataset(official).samples[1]) == 3
    assert len(calls) == 1
    assert [path.name for path in official.root.iterdir()] == [dataset(official).versions[-1].folder]


def test_a_download_that_another_process_finished_first_is_no_error(official10, monkeypatch):
    def download(root, *, download):
        (pathlib.Path(root) / "cifar-10-batches-py").mkdir()
        official10.python()

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", download)
    assert len(dataset(official10).samples[1]) == 3


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), RuntimeError("File not found or corrupted.")])
def test_a_failed_download_says_what_was_sought_where(official10, monkeypatch, error):
    def download(root, *, download):
        raise error

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", download)
    assert error_of(official10) == (
        f"CIFAR-10 is not in {official10.root} (sought: cifar-10-batches-bin or cifar-10-batches-py), "
        f"and downloading it failed: {error}"
    )
    assert list(official10.root.iterdir()) == []


def test_without_a_root_the_users_cache_is_searched(official10, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    official10.root = tmp_path / ".cache" / "switchnorm"
    official10.binary()
    assert len(Cifar10().samples[1]) == 3
