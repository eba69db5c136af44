"""ADE20K's lists: which is found, what they may say, and one line for everything that is wrong with them."""

import shutil

import pytest
import torch
from PIL import Image

from switchnorm.data import create_dataset
from switchnorm.data.segmentation import IGNORED
from tests.data.segmentation.mapped import refused, write_odgt, write_root


@pytest.fixture
def ade(tmp_path):
    """Five pictures with masks, listed."""
    root = tmp_path / "ade"
    write_root(root, train=[], numbers=(1, 75, 150))
    sizes = [Image.open(path).size for path in sorted((root / "val").iterdir())]
    entries = [
        {
            "fpath_img": f"val/{place:02d}.png",
            "fpath_segm": f"valannot/{place:02d}.png",
            "width": width,
            "height": height,
        }
        for place, (width, height) in enumerate(sizes)
    ]
    write_odgt(root / "validation.odgt", entries)
    return root, entries


def ade20k(root, **options):
    return create_dataset("ade20k", root=str(root), workers=0, **options)


@pytest.mark.parametrize("prefix", ["", "ade/"])
@pytest.mark.parametrize("where", ["ade/validation.odgt", "lists/mine.odgt", "mine.odgt"])
def test_a_listed_path_counts_from_the_root_the_list_or_the_folder_above(ade, tmp_path, prefix, where):
    root, entries = ade
    (tmp_path / "lists").mkdir()
    (root / "validation.odgt").unlink()
    for entry in entries:
        entry.update({key: prefix + entry[key] for key in ("fpath_img", "fpath_segm")})
    write_odgt(tmp_path / where, entries)
    options = {} if "ade/" in where else {"val_list": str(tmp_path / where)}
    data = ade20k(root, **options)
    data.prepare()
    assert data.test_size == 5
    assert set(data.test_target(2).unique().tolist()) == {0, 74, 149}
    assert data._test.sizes[3].tolist() == [24, 37]


def test_the_training_list_gives_the_sizes_and_folders_do_too(ade, tmp_path):
    root, _ = ade
    (root / "validation.odgt").rename(root / "training.odgt")
    options = {"short_sides": [16], "longest": 24, "test_sides": []}
    listed = ade20k(root, **options)
    for source, place in (("val", "images/training"), ("valannot", "annotations/training")):
        shutil.copytree(root / source, tmp_path / "folders" / place)
    in_folders = ade20k(tmp_path / "folders", **options)
    assert listed.shape == in_folders.shape == (24, 24)
    for one, other in zip(*(data.train_batches(batch_size=2, seed=3) for data in (listed, in_folders)), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
        assert set(one[1].unique().tolist()) <= {0, 74, 149, IGNORED}


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("val/00.png 3", r"validation.odgt: line 6 is no JSON object, got 'val/00.png 3'; expected {\"fpath_img\": "),
        ("[1, 2]", r"line 6 is no JSON object, got '\[1, 2\]'"),
        ('{"fpath_img": "val/00.png", "width": 3, "height": 3}', "line 6 lacks 'fpath_segm'; expected"),
        ('{"fpath_img": "a", "fpath_segm": "b", "width": 3}', "line 6 lacks 'height'"),
        ('{"fpath_img": "a", "fpath_segm": "b", "width": "3", "height": 3}', "line 6 has width '3'; expected"),
        ('{"fpath_img": "a", "fpath_segm": "b", "width": 0, "height": 3}', "line 6 has width 0"),
        ('{"fpath_img": "", "fpath_segm": "b", "width": 2, "height": 3}', "line 6 has fpath_img ''"),
    ],
)
def test_lines_that_do_not_say_what_they_must(ade, line, match):
    root, _ = ade
    with (root / "validation.odgt").open("a") as file:
        file.write(line + "\n")
    refused(match, ade20k(root).prepare)


def test_lists_that_do_not_fit_their_files(ade):
    root, entries = ade
    for name, missing in (("val", "val/01.png"), ("valannot", "valannot/01.png")):
        (root / name / "01.png").rename(root / "away.png")
        refused(
            rf"validation.odgt: 1 of its 10 pictures and masks are missing, the first is .*/{missing}",
            ade20k(root).prepare,
        )
        (root / "away.png").rename(root / name / "01.png")
    entries[2]["width"] += 1
    write_odgt(root / "validation.odgt", entries)
    data = ade20k(root)
    data.prepare()
    match = r"picture .*/val/02.png is 20x20; expected 21x20 as .*/validation.odgt states"
    refused(match, lambda: list(data.test_batches(batch_size=1)))
    (root / "validation.odgt").write_text("\n")
    refused("validation.odgt is empty; expected {", ade20k(root).prepare)
    (root / "validation.odgt").write_bytes(b"\xff\x00")
    refused(r"list of pictures .*validation.odgt is damaged: line 1 is no text", ade20k(root).prepare)
    refused(r"val_list 'none.odgt' is not a file, neither here nor in", ade20k(root, val_list="none.odgt").prepare)


def test_a_list_of_a_split_that_is_not_evaluated():
    refused(
        "val_list has no effect with split 'test'; set split to 'val' or val_list to null",
        lambda: create_dataset("ade20k", root="nowhere", split="test", val_list="a.odgt"),
    )


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ("training.odgt", "train.odgt")),
        ("val", ("validation.odgt", "val.odgt")),
        ("test", ("testing.odgt", "test.odgt")),
    ],
)
def test_either_published_name_of_a_list_is_found_and_both_are_refused(ade, split, names):
    root, _ = ade
    listed = (root / "validation.odgt").rename(root / "kept")
    options = {"split": "test"} if split == "test" else {}
    for name in names:
        shutil.copy(listed, root / name)
        pairs = ade20k(root, **options)._splits[split]
        assert (len(pairs), pairs.source) == (5, root / name)
        (root / name).unlink()
    for name in names:
        shutil.copy(listed, root / name)
    advice = "take one away" if split == "test" else f"name one as {split}_list"
    refused(f"ade holds both {names[1]} and {names[0]}; {advice}$", ade20k(root, **options).prepare)
    if split != "test":
        pairs = ade20k(root, **{f"{split}_list": names[0]})._splits[split]
        assert (len(pairs), pairs.source) == (5, root / names[0])


def test_an_absent_list_is_named_by_both_its_names_and_the_option(ade):
    root, _ = ade
    (root / "validation.odgt").unlink()
    refused(
        "neither train nor val pictures with masks .for train: train.odgt, training.odgt, what train_list names, train "
        "with trainannot, .*; for val: val.odgt, validation.odgt, valid.odgt, what val_list names, val with",
        ade20k(root / "valannot").prepare,
    )
    refused("for test: test.odgt, testing.odgt, test with testannot", ade20k(root / "valannot", split="test").prepare)
