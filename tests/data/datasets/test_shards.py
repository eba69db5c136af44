"""Photographs in WebDataset's shards: what folders give, from archives here and elsewhere, and damaged ones."""

import io
import tarfile

import fsspec
import pytest
import torch

from switchnorm.data import Folder, ImageNet
from switchnorm.data.files.shards import find_pictures, find_shards, read_shards, shards_in
from switchnorm.errors import InputError
from tests.data.photos import CLASSES, folder, training, write_tree


def write_shards(tree, root, per_shard=5, labelled=False, layout="{split}/{number:04d}.tar"):
    """The photographs of `write_tree`, shuffled into shards, with their class as a folder or in a file `.cls`."""
    for split in ("train", "val"):
        files = sorted((tree / split).rglob("*.jpg"))
        mixed = files if labelled else [files[place] for place in torch.randperm(len(files)).tolist()]
        for number in range(0, len(mixed), per_shard):
            file = root / layout.format(split=split, number=number // per_shard)
            file.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(file, "w") as archive:
                for picture in mixed[number : number + per_shard]:
                    name = picture.relative_to(tree / split).as_posix()
                    if labelled:
                        name = name.replace("/", "-")
                        content = str(CLASSES.index(picture.parent.name)).encode()
                        member = tarfile.TarInfo(name.replace(".jpg", ".cls"))
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
                    archive.add(picture, name)
    return root


@pytest.fixture
def places(tmp_path):
    tree = write_tree(tmp_path / "tree")
    return tree, write_shards(tree, tmp_path / "shards")


def assert_same(left, right):
    left, right = list(left), list(right)
    assert len(left) == len(right) > 0
    for ours, theirs in zip(left, right, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_give_what_the_folder_gives_bit_for_bit(places, workers):
    tree, shards = places
    assert folder(shards).classes == CLASSES
    ours, theirs = training(shards, workers=workers), training(tree)
    for _ in range(2):
        assert_same(ours, theirs)
    assert_same(folder(shards, workers=workers).test_batches(batch_size=4), folder(tree).test_batches(batch_size=4))
    assert folder(shards).fingerprint() == folder(tree).fingerprint()
    assert [folder(shards).train_name(i) for i in range(12)] == [folder(tree).train_name(i) for i in range(12)]


def test_a_training_goes_on_in_the_middle_of_an_epoch(places):
    _, shards = places
    begun = training(shards)
    batches = iter(begun)
    next(batches)
    state = begun.state_dict()
    rest = list(batches)
    again = training(shards)
    again.load_state_dict(state)
    assert_same(again, rest)


def test_labels_may_be_in_files_beside(tmp_path):
    tree = write_tree(tmp_path / "tree")
    shards = write_shards(tree, tmp_path / "shards", labelled=True, layout="photos-{split}-{number:06d}.tar")
    assert_same(folder(shards).test_batches(batch_size=4), folder(tree).test_batches(batch_size=4))
    assert_same(training(shards), training(tree))


def test_shards_may_lie_wherever_fsspec_reaches(places):
    tree, shards = places
    memory = fsspec.filesystem("memory")
    for file in shards.rglob("*.tar"):
        memory.pipe_file(f"/there/{file.relative_to(shards).as_posix()}", file.read_bytes())
    data = Folder("memory://there", size=16, resize=20, workers=0)
    assert_same(data.test_batches(batch_size=4), folder(tree).test_batches(batch_size=4))
    assert data.train_size == 12
    cached = Folder(f"simplecache::file://{shards}", size=16, resize=20, workers=0)
    assert_same(cached.test_batches(batch_size=4), folder(tree).test_batches(batch_size=4))
    with pytest.raises(InputError, match="has shards neither in 'train' and 'val' nor called"):
        Folder("memory://elsewhere").prepare()
    with pytest.raises(InputError, match="shards 'nothing://x/train' cannot be reached"):
        Folder("nothing://x").prepare()


@pytest.mark.parametrize("damage", ["cut", "cut between files", "overwritten", "empty", "no archive"])
def test_a_damaged_shard_is_named(places, damage):
    _, shards = places
    file = shards / "train/0001.tar"
    whole = file.read_bytes()
    with tarfile.open(file) as archive:
        last = archive.getmembers()[-1]
    file.write_bytes(
        {
            "cut": whole[: last.offset_data + 100],
            "cut between files": whole[: last.offset],
            "overwritten": whole[: last.offset] + b"x" * 512 + whole[last.offset + 512 :],
            "empty": b"",
            "no archive": b"x" * 5000,
        }[damage]
    )
    with pytest.raises(
        InputError, match=r"shard .*train/0001\.tar is damaged after byte \d+ .*; bring it again, or set"
    ):
        folder(shards).prepare()
    skipped = folder(shards, on_damaged="skip")
    assert skipped.train_size == 7
    assert "train leaves out damaged shards: 1" in " ".join(skipped.unusual())


def test_a_damaged_picture_is_named_with_its_shard(places):
    _, shards = places
    file = shards / "val/0000.tar"
    with tarfile.open(file) as archive:
        member = archive.getmembers()[2]
    with file.open("r+b") as archive:
        archive.seek(member.offset_data)
        archive.write(bytes(member.size))
    with pytest.raises(InputError, match=rf"cannot read .*val/0000\.tar/{member.name} \("):
        list(folder(shards).test_batches(batch_size=4))
    batches = folder(shards, on_damaged="skip").test_batches(batch_size=4)
    with pytest.warns(UserWarning, match=rf"0000\.tar/{member.name}"):
        assert sum(len(labels) for _, labels in batches) == 8


def test_pictures_without_a_label_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with tarfile.open(tmp_path / "train/0.tar", "w") as archive:
        picture = next(write_tree(tmp_path / "tree").rglob("*.jpg"))
        archive.add(picture, "000.jpg")
    with pytest.raises(InputError, match=r"0\.tar: '000.jpg' has no label; expected 000\.cls beside it, or a folder"):
        folder(tmp_path).prepare()


def test_folders_of_classes_count_where_archives_lie_beside(tmp_path):
    tree = write_tree(tmp_path)
    (tree / "train/n0.tar").write_bytes(b"what the folders were taken from")
    assert folder(tree).train_size == 12


def test_names_of_shards(tmp_path):
    for name in ("imagenet-train-000.tar", "imagenet-train-001.tar", "imagenet-val-000.tar", "retrained-000.tar"):
        (tmp_path / name).touch()
    found = [each.rpartition("/")[2] for each in find_shards(str(tmp_path), "train", "train")]
    assert found == ["imagenet-train-000.tar", "imagenet-train-001.tar"]
    assert len(shards_in(f"{tmp_path}/imagenet-train-{{000..001}}.tar")) == 2
    assert len(shards_in(f"{tmp_path}/imagenet-train-{{000..000}}.tar")) == 1


def test_imagenet_in_shards(tmp_path):
    tree = write_tree(tmp_path / "tree", classes=("n01440764", "n01443537"))
    shards = write_shards(tree, tmp_path / "shards")
    with pytest.raises(InputError, match="has 2 class folders, expected 1000"):
        ImageNet(str(shards)).prepare()
    assert read_shards("there", shards_in(str(shards / "val")), may_miss=False).names == {
        0: "n01440764",
        1: "n01443537",
    }


def archive_of(path, *members):
    """A shard of members, each a name and its content; pictures are looked at by their names alone."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


ONE = ("1.png", b"-"), ("1.cls", b"0")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((*ONE, ("1.cls", b"2")), "holds '1.cls' twice"),
        ((*ONE, ("./1.png", b"-")), "holds '1.png' twice"),
        ((*ONE, ("1.jpg", b"-")), "'1.png' and '1.jpg' are pictures of one sample"),
        ((("1.left.png", b"-"), ("1.right.png", b"-"), ("1.cls", b"0")), "'1.left.png' and '1.right.png' are pictures"),
        ((("1.png", b"-"), ("1.a.cls", b"0"), ("1.b.cls", b"1")), "'1.a.cls' and '1.b.cls' are labels of one sample"),
        ((*ONE, ("2.png", b"-")), "2.png must have a label"),
    ],
)
def test_what_could_be_meant_twice_is_refused(tmp_path, members, message):
    with pytest.raises(InputError, match=message):
        read_shards("here", [archive_of(tmp_path / "train.tar", *members)], may_miss=False)


def test_each_sample_is_one_picture_and_the_rest_is_counted(tmp_path):
    first = archive_of(tmp_path / "train-0.tar", *ONE, ("1.mask.png", b"-"), ("1.fine.cls", b"7"), ("2.cls", b"1"))
    second = archive_of(tmp_path / "train-1.tar", ("1.cls", b"3"), ("1.image.png", b"-"))  # a sample of its own
    found = read_shards("here", [first, second], may_miss=False)
    assert list(found.paths.names()) == ["1.png", "1.image.png"]
    assert found.labels.tolist() == [0, 3]
    assert {(each.reason, each.count, each.first) for each in found.left_out} == {
        ("pictures beside those of samples", 1, f"{first}/1.mask.png"),
        ("labels beside those of samples", 1, f"{first}/1.fine.cls"),
        ("labels without a picture", 1, f"{first}/2.cls"),
    }


def test_pictures_in_folders_of_classes_may_share_the_beginning_of_a_name(tmp_path):
    shard = archive_of(tmp_path / "train.tar", ("a/of.2020.png", b"-"), ("a/of.2021.png", b"-"), ("b/of.png", b"-"))
    assert read_shards("here", [shard], may_miss=False).labels.tolist() == [0, 0, 1]


def test_both_splits_in_one_root_are_no_repetition(tmp_path):
    tree = write_tree(tmp_path / "tree")
    shards = write_shards(tree, tmp_path / "shards", layout="{split}-{number:06d}.tar")
    assert not any("again" in line for line in folder(shards)._contents.unusual(training=True))
    again = folder(shards, train_folder=str(shards), val_folder=str(shards))
    assert any("again" in line for line in again._contents.unusual(training=True))


def test_a_name_that_two_pictures_may_have_is_refused(tmp_path):
    first = archive_of(tmp_path / "0.tar", ("a/1.png", b"-"), ("2.png", b"-"), ("a/3.png", b"-"))
    archive_of(tmp_path / "1.tar", ("b/1.png", b"-"), ("b/2.png", b"-"))
    found, paths = find_pictures(["a/1.png", "2.png", "3.png"], [str(tmp_path)], tmp_path / "list", may_miss=False)
    assert found == ["a/1.png", "2.png", "a/3.png"]
    assert [paths[i].archive for i in range(3)] == [first] * 3
    with pytest.raises(InputError, match=r"names '1.png', which both .*/a/1.png and .*/b/1.png may be"):
        find_pictures(["1.png"], [str(tmp_path)], tmp_path / "list", may_miss=False)
