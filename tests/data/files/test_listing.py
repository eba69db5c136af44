import os
import pickle

import pytest

from switchnorm.data.files.listing import Paths, read_folders, read_list
from switchnorm.errors import InputError
from tests.data.photos import CLASSES, jpeg_bytes, write_lists


def pairs(listing):
    paths = [listing.paths[place].removeprefix(listing.paths.folder + "/") for place in range(len(listing))]
    return list(zip(paths, listing.labels.tolist(), strict=True))


def write(file, text):
    file.write_text(text)
    return file


def test_folders_are_numbered_in_sorted_order(tree):
    listing = read_folders(tree / "train")
    assert pairs(listing) == [
        (f"{name}/{number}.jpg", label) for label, name in enumerate(CLASSES) for number in range(4)
    ]
    assert listing.names == dict(enumerate(CLASSES))


def test_pictures_are_found_at_any_depth_by_any_usual_name_and_nothing_else(tmp_path):
    for name in (
        "a/1.JPEG",
        "a/deep/er/2.png",
        "a/3.WebP",
        "b/4.tiff",
        "a/notes.txt",
        "a/._1.jpg",
        ".git/x.jpg",
        "c.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg_bytes())
    assert pairs(read_folders(tmp_path)) == [("a/1.JPEG", 0), ("a/3.WebP", 0), ("a/deep/er/2.png", 0), ("b/4.tiff", 1)]


def test_a_list_that_never_ends_is_refused(tmp_path):
    os.mkfifo(tmp_path / "l.txt")
    with pytest.raises(InputError, match=r"list of pictures .*l\.txt is no file"):
        read_list(tmp_path / "l.txt", [tmp_path], may_miss=True)


def test_a_label_of_many_digits_is_refused(tree):
    with pytest.raises(InputError, match=r"line 1 has label 9{40}; labels run"):
        read_list(write(tree / "l.txt", "cat/0.jpg " + "9" * 5000), [tree / "train"], may_miss=True)


@pytest.mark.parametrize(
    ("made", "message"), [("x/y.txt", "class folders hold no pictures"), ("y", "no class folders")]
)
def test_a_folder_without_pictures_is_named(tmp_path, made, message):
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).write_text("")
    with pytest.raises(InputError, match=message):
        read_folders(tmp_path)


def test_a_list_says_the_same_as_the_folders(tree):
    write_lists(tree)
    folders = read_folders(tree / "train")
    listed = read_list(tree / "train.txt", [tree / "train"], may_miss=False)
    assert pairs(listed) == pairs(folders)
    assert listed.names == folders.names


def test_paths_with_spaces_and_blank_lines(tree):
    (tree / "train/cat/0.jpg").rename(tree / "train/cat/a  b.jpg")
    listing = read_list(write(tree / "l.txt", "\ncat/a  b.jpg\t7\r\n\n"), [tree / "train"], may_miss=False)
    assert pairs(listing) == [("cat/a  b.jpg", 7)]


def test_the_folder_where_the_fewest_are_missing_counts(tree):
    file = write(tree / "l.txt", "train/cat/0.jpg 0\ntrain/cat/gone.jpg 0\n")
    assert read_list(file, [tree / "train", tree], may_miss=True).paths[0] == str(tree / "train/cat/0.jpg")


@pytest.mark.parametrize("may_miss", [False, True])
def test_missing_pictures_are_counted_and_the_first_is_named(tree, may_miss):
    write_lists(tree)
    for number in (1, 3):
        (tree / f"train/dog/{number}.jpg").unlink()
    if may_miss:
        assert len(read_list(tree / "train.txt", [tree / "train"], may_miss=True)) == 12
        return
    message = rf"train.txt: 2 of its 12 pictures are missing, the first is {tree}/train/dog/1.jpg; bring them, or set"
    with pytest.raises(InputError, match=message):
        read_list(tree / "train.txt", [tree / "train"], may_miss=False)


def test_a_list_of_which_nothing_is_there_is_refused_in_any_case(tree):
    with pytest.raises(InputError, match=r"1 of its 1 pictures are missing, the first is /nowhere/a.jpg$"):
        read_list(write(tree / "l.txt", "a.jpg 0"), [type(tree)("/nowhere"), tree], may_miss=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat/0.jpg 0\ncat/1.jpg -1", "line 2 has label -1; labels run from 0"),
        ("cat/0.jpg 12345678901234567890", "line 1 has label 12345678901234567890; labels run from 0"),
        ("cat/0.jpg", "line 1 must be a path and a label, 'n01440764/a.JPEG 0', got 'cat/0.jpg'"),
        ("cat/0.jpg cat", "line 1 must be a path and a label"),
        ("cat/0.jpg 0.5", "line 1 must be a path and a label"),
        ("cat/0.jpg 0\n7", "line 2 must be a path and a label"),
        ("\n\n", "is empty; expected a path and a label in each line"),
    ],
)
def test_lists_of_something_else_are_refused_with_the_line(tree, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_list(write(tree / "l.txt", content), [tree / "train"], may_miss=True)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_no_text_is_refused(tree):
    with pytest.raises(InputError, match=r"list of pictures .*0\.jpg is damaged: line 1 is no text"):
        read_list(tree / "train/cat/0.jpg", [tree], may_miss=True)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("cat/0.jpg 4\ndog/0.jpg 2", {4: "cat", 2: "dog"}),
        ("cat/0.jpg 0\ndog/0.jpg 0", {}),
        ("cat/0.jpg 0\ncat/1.jpg 1", {}),
    ],
)
def test_a_label_is_called_like_its_folder_if_it_has_one_of_its_own(tree, content, names):
    assert read_list(write(tree / "l.txt", content), [tree / "train"], may_miss=False).names == names


def test_paths_survive_the_way_to_a_worker_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a/ü.jpg", "", "b/日本.png", b"c\xff.jpg".decode("utf-8", "surrogateescape")]
    paths = pickle.loads(pickle.dumps(Paths(tmp_path.relative_to(tmp_path), names)))
    monkeypatch.chdir("/")
    assert [paths[place] for place in range(len(paths))] == [f"{tmp_path}/{name}" for name in names]
