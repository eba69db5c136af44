"""COCO's pictures in tar archives."""

import tarfile

import fsspec
import numpy as np
import pytest

from switchnorm.data import Coco
from switchnorm.errors import InputError
from tests.data.detection.formats import write_coco


def archived(folder, target):
    """The pictures of a folder, one to an archive."""
    target.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(sorted(folder.glob("*.*"))):
        with tarfile.open(target / f"{number:03d}.tar", "w") as archive:
            archive.add(picture, picture.name)
    return target


def test_archives_give_what_the_folder_gives(tmp_path):
    root = write_coco(tmp_path / "files")
    other = write_coco(tmp_path / "shards")
    for split in ("train", "val"):
        archived(root / f"{split}2017", other / f"{split}2017")
        for picture in (root / f"{split}2017").iterdir():
            (other / f"{split}2017" / picture.name).unlink()
    ours, theirs = Coco(str(other), workers=0), Coco(str(root), workers=0)
    assert ours.train_size == theirs.train_size
    assert ours.fingerprint() == theirs.fingerprint()
    for index in range(ours.train_size):
        a, b = (data._train.picture(index, data._found_pixels) for data in (ours, theirs))
        assert np.array_equal(np.asarray(a), np.asarray(b))


def test_pictures_may_lie_wherever_fsspec_reaches(tmp_path):
    root = write_coco(tmp_path)
    memory = fsspec.filesystem("memory")
    for file in archived(root / "train2017", tmp_path / "archives").iterdir():
        memory.pipe_file(f"/coco/train/{file.name}", file.read_bytes())
    data = Coco(str(root), train_pictures="memory://coco/train", workers=0)
    assert data.train_size == 3
    assert data._train.paths[0].startswith("memory://")
    assert data._train.picture(0, data._found_pixels).size
    memory.rm("/coco/train/000.tar")
    with pytest.raises(InputError, match=r"1 of its 3 pictures are missing in the 2 shards of memory://coco/train"):
        Coco(str(root), train_pictures="memory://coco/train", workers=0).prepare()
