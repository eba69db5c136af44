import io
import pickle
import struct

import numpy as np
import pytest
import torch

from switchnorm.data import Samples
from tests.data.photos import write_tree


@pytest.fixture
def samples():
    """10 colour images of 5 x 4 pixels; no two are equal, and label i belongs to image i."""
    images = torch.arange(10 * 3 * 5 * 4).remainder(251).to(torch.uint8).view(10, 3, 5, 4)
    return Samples(images, torch.arange(10), mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))


class Python2Pickler(pickle._Pickler):
    """Writes bytes as the strings of Python 2, in which the official pickles were made."""

    def save_string(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_string}  # noqa: RUF012


def python2_pickle(path, content):
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    path.write_bytes(buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def write_binary(path, pixels, *labels):
    path.write_bytes(np.concatenate([*(np.uint8(label)[:, None] for label in labels), pixels], axis=1).tobytes())


class OfficialFiles:
    """Writes CIFAR folders in the official formats, 3 images in a file, and knows what they hold."""

    def __init__(self, root, classes):
        self.root = root
        self.generator = np.random.default_rng(0)
        self.classes = classes
        self.train_files = [f"data_batch_{i}" for i in range(1, 6)] if classes == 10 else ["train"]
        self.test_file = "test_batch" if classes == 10 else "test"
        self.content = {name: self._random_content() for name in [*self.train_files, self.test_file]}

    def _random_content(self):
        pixels = self.generator.integers(0, 256, (3, 3072), dtype=np.uint8)
        return pixels, self.generator.integers(0, self.classes, 3).tolist()

    def binary(self):
        folder = self.root / ("cifar-10-batches-bin" if self.classes == 10 else "cifar-100-binary")
        folder.mkdir(parents=True)
        for name, (pixels, labels) in self.content.items():
            coarse = [] if self.classes == 10 else [[19, 0, 7]]
            write_binary(folder / f"{name}.bin", pixels, *coarse, labels)
        return folder

    def python(self):
        folder = self.root / ("cifar-10-batches-py" if self.classes == 10 else "cifar-100-python")
        folder.mkdir(parents=True)
        for name, (pixels, labels) in self.content.items():
            key = b"labels" if self.classes == 10 else b"fine_labels"
            python2_pickle(folder / name, {b"data": pixels, key: labels, b"coarse_labels": [19, 0, 7]})
        return folder

    def expected(self, names):
        pixels = np.concatenate([self.content[name][0] for name in names])
        return torch.from_numpy(pixels).view(-1, 3, 32, 32), [
            label for name in names for label in self.content[name][1]
        ]


@pytest.fixture(params=[10, 100])
def official(request, tmp_path):
    return OfficialFiles(tmp_path / "root", request.param)


@pytest.fixture
def official10(tmp_path):
    return OfficialFiles(tmp_path / "root", 10)


@pytest.fixture
def write_pickle():
    return python2_pickle


@pytest.fixture
def tree(tmp_path):
    """A folder of 3 classes with 4 training and 3 validation pictures each."""
    return write_tree(tmp_path / "photos")
