"""`switchnorm check`: what it takes, what it prints and how it ends."""

import os
import re
from pathlib import Path

import pytest

from switchnorm.cli import main
from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from tests.data.photos import truncate, write_lists, write_tree

SMALL = ("--data.size", "16", "--data.resize", "20", "--data.workers", "0")


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tree(tmp_path / "photos")


def check(capsys, *arguments):
    code = 0
    try:
        main(["check", *map(str, arguments)])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    return code, out, err


def test_data_by_flags_alone(photos, capsys):
    code, out, err = check(capsys, "--data", "folder", "--data.root", photos, *SMALL)
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["folder: nothing wrong", "page: check.html"]
    assert sorted(path.name for path in photos.parent.iterdir()) == ["check.html", "photos"]


def test_a_recipe_and_a_run_with_other_data(photos, capsys):
    recipe = photos.parent / "r.yaml"
    recipe.write_text(
        "model: {name: resnet18, norm: gn}\ndata: {name: folder, root: nowhere, size: 16, resize: 20, workers: 0}\n"
        "train: {epochs: 1, batch_size: 4}\noptimizer: {lr: 0.1}\n"
    )
    code, out, _ = check(capsys, "r.yaml", "--data.root", photos, "--out", "some/page.html")
    assert (code, out.splitlines()[-1]) == (0, "page: some/page.html")
    from switchnorm.config.recipe import read_config
    from switchnorm.runs.folder import RunFolder

    RunFolder.create(Path("run"), read_config(recipe, ["--data.root", str(photos)]), ["x"])
    code, out, _ = check(capsys, "run", "--limit", "2")
    assert code == 0
    assert "looked at" in out
    assert "folder: nothing wrong among what was looked at" in out


def test_what_is_wrong_is_code_1(photos, capsys):
    truncate(photos / "val/dog/1.jpg")
    code, out, err = check(capsys, "--data", "folder", "--data.root", photos, *SMALL)
    assert (code, err) == (1, "")
    assert "wrong: val: 1 of 9 pictures cannot be read: dog/1.jpg (" in out
    assert Path("check.html").is_file()


def refused(capsys, photos, *flags):
    """What training says of the data, whose `check` has the same words among what is wrong, a table and a page."""
    with pytest.raises(InputError) as error:
        create_dataset("folder", root=str(photos), size=16, resize=20, workers=0).prepare()
    code, out, err = check(capsys, "--data", "folder", "--data.root", photos, *SMALL, *flags)
    assert (code, err) == (1, "")
    assert f"wrong: {error.value}\n" in out
    assert out.splitlines()[-1] == "page: check.html"
    return out


def test_a_class_without_training_pictures_is_listed_and_the_rest_looked_at(photos, capsys):
    (photos / "train/zebra").mkdir()
    truncate(photos / "val/dog/1.jpg")
    out = refused(capsys, photos)
    assert "wrong: val: 1 of 9 pictures cannot be read: dog/1.jpg (" in out
    assert re.search(r"^zebra +0 ", out, re.MULTILINE)


def test_pictures_of_a_class_that_is_not_known_are_listed_and_left_out(photos, capsys):
    (photos / "val/dog").rename(photos / "val/wolf")
    out = refused(capsys, photos)
    assert "class of photos/val 'wolf' is unknown" in out.replace(f"{photos.parent}/", "")
    assert re.search(r"^pictures +12 +6 *$", out, re.MULTILINE)


def test_pictures_of_one_class_are_wrong(photos, capsys):
    flags = ("--data.train_folder", "train/cat", "--data.val_folder", "val/cat")
    for split in ("train", "val"):
        (photos / split / "cat/all").mkdir()
        for path in (photos / split / "cat").glob("*.jpg"):
            path.rename(path.parent / "all" / path.name)
    code, out, _ = check(capsys, "--data", "folder", "--data.root", photos, *SMALL, *flags)
    assert code == 1
    assert "photos' has one class, 'all', so that nothing can be learned; expected two at least; is that" in out


def test_pictures_that_a_list_lacks_are_counted(photos, capsys):
    write_lists(photos)
    (photos / "val/fox/0.jpg").unlink()
    out = refused(capsys, photos)
    assert "wrong: val: 1 of 9 pictures is missing: fox/0.jpg" in out


def test_a_split_whose_list_cannot_be_read_leaves_the_other_to_look_at(photos, capsys):
    write_lists(photos)
    (photos / "train.txt").write_text("cat/0.jpg\n")
    out = refused(capsys, photos)
    assert re.search(r"^pictures +9 *$", out, re.MULTILINE)
    (photos / "val.txt").write_text("cat/0.jpg\n")
    code, out, err = check(capsys, "--data", "folder", "--data.root", photos, *SMALL)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "train.txt: line 1 must be a path and a label" in err


def test_a_name_that_is_no_unicode_is_spelled_out(photos, capsys):
    (photos / "val/dog/1.jpg").rename(photos / "val/dog" / os.fsdecode(b"caf\xe9.jpg"))
    truncate(photos / "val/dog" / os.fsdecode(b"caf\xe9.jpg"))
    code, out, err = check(capsys, "--data", "folder", "--data.root", photos, *SMALL)
    assert (code, err) == (1, "")
    assert "cannot be read: dog/caf\\udce9.jpg (" in out
    assert "dog/caf\\udce9.jpg" in Path("check.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "check takes a recipe, a run or --data NAME"),
        (("--data", "foldr"), "dataset 'foldr' is unknown; did you mean 'folder'?"),
        (("--data", "folder"), "data.root"),
        (("--data", "folder", "--data.root", "nowhere"), "root 'nowhere' is not a folder"),
        (("camvid/smal",), "did you mean 'camvid/small'?"),
        (("photos",), "is no run folder"),
        (("camvid/small", "--limit", "0"), "--limit must be at least 1, got 0"),
        (("camvid/small", "--out", "."), ". is a folder; the page is one file: give check.html"),
    ],
)
def test_what_cannot_be_looked_at_is_code_2_and_a_line(photos, capsys, arguments, message):
    code, out, err = check(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]
