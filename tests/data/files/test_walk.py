import os
import shutil
import unicodedata

import pytest

from switchnorm.data import Folder
from switchnorm.data.files.listing import EXTENSIONS, NAMES, read_folders, read_list
from switchnorm.data.files.walk import Found, find_files, told
from switchnorm.errors import InputError
from tests.data.photos import jpeg_bytes, write_tree
from tests.data.segmentation.mapped import dataset, write_root

E_ACUTE, E_AND_ACUTE = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg_bytes())


def below(root):
    found = find_files(root, EXTENSIONS)
    paths = [os.path.relpath(path, root) for path in found.paths]
    return paths, {each.reason: (each.count, os.path.relpath(each.first, root)) for each in found.left_out}


@pytest.mark.parametrize(
    ("names", "reason", "count", "first"),
    [
        ((".ipynb_checkpoints/a.jpg", ".git/b.jpg"), "hidden folders", 2, ".git"),
        (("@eaDir/a.jpg", "x/__MACOSX/b.jpg"), "hidden folders", 2, "@eaDir"),
        (("._a.jpg", "x/.b.png"), "hidden files", 2, "._a.jpg"),
        (("notes.txt", "x/more.TXT"), "files of type .txt", 2, "notes.txt"),
        (("readme",), "files of type none", 1, "readme"),
        (("Thumbs.db", ".DS_Store", "desktop.ini"), None, 0, ""),
    ],
)
def test_what_lies_beside_pictures_is_counted_by_reason(tmp_path, names, reason, count, first):
    make(tmp_path, "1.jpg", "x/2.jpg", *names)
    paths, left_out = below(tmp_path)
    assert paths == ["1.jpg", "x/2.jpg"]
    assert left_out == ({} if reason is None else {reason: (count, first)})


def test_links_are_followed_once_and_never_back(tmp_path):
    make(tmp_path / "data", "1.jpg", "x/2.jpg")
    make(tmp_path, "elsewhere/3.jpg", "outside/up/4.jpg")
    data = tmp_path / "data"
    (data / "loop").symlink_to(data)
    (data / "x/loop").symlink_to("..")
    (data / "y").symlink_to(tmp_path / "elsewhere")
    (data / "z").symlink_to(tmp_path / "elsewhere")
    (data / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (data / "itself.jpg").symlink_to("itself.jpg")
    (data / "linked.jpg").symlink_to(tmp_path / "outside/up/4.jpg")
    os.mkfifo(data / "pipe.jpg")
    paths, left_out = below(data)
    assert paths == ["1.jpg", "linked.jpg", "x/2.jpg", "y/3.jpg"]
    assert left_out == {
        "links that lead nowhere": (2, "gone.jpg"),
        "entries that are no files": (1, "pipe.jpg"),
        "links to a folder that they lie in": (2, "loop"),
        "links to a folder that is taken already": (1, "z"),
    }


def test_a_folder_that_cannot_be_read_is_counted(tmp_path, monkeypatch):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert below(tmp_path) == (["b/2.jpg"], {"folders that cannot be read: Permission denied": (1, "a")})


def test_classes_are_neither_hidden_nor_links_back(tmp_path):
    make(tmp_path, "cat/1.jpg", "dog/2.jpg", ".cache/3.jpg", "4.jpg", "all.zip")
    (tmp_path / "loop").symlink_to(".")
    listing = read_folders(tmp_path)
    assert (listing.names, len(listing)) == ({0: "cat", 1: "dog"}, 2)
    line = f"train leaves out hidden folders: 1 ({tmp_path}/.cache); links to a folder that they lie in: 1 "
    line += f"({tmp_path}/loop); files of type .zip: 1 ({tmp_path}/all.zip); "
    line += f"pictures beside the folders of classes: 1 ({tmp_path}/4.jpg)"
    assert told("train", listing.left_out) == line


def test_two_classes_that_are_one_folder_are_refused(tmp_path):
    make(tmp_path, "cat/1.jpg")
    (tmp_path / "kitten").symlink_to("cat")
    with pytest.raises(InputError, match="classes 'cat' and 'kitten' are the same folder; remove the link"):
        read_folders(tmp_path)


@pytest.mark.parametrize(("train", "val"), [(E_ACUTE, E_AND_ACUTE), (E_AND_ACUTE, E_ACUTE)])
def test_an_accent_is_one_character_or_two(tmp_path, train, val):
    make(tmp_path, f"train/{train}/{train}.jpg", "train/dog/1.jpg", f"val/{val}/1.jpg")
    data = Folder(str(tmp_path))
    assert data.classes == (E_ACUTE, "dog")
    assert data._test.labels.tolist() == [0]
    (tmp_path / "train.txt").write_text(f"{val}/{val}.jpg 0\ndog/1.jpg 1\n", encoding="utf-8")
    listing = read_list(tmp_path / "train.txt", [tmp_path / "train"], may_miss=False)
    assert os.path.isfile(listing.paths[0])
    assert listing.names == {0: E_ACUTE, 1: "dog"}


def test_two_spellings_of_one_class_are_refused(tmp_path):
    make(tmp_path, f"{E_ACUTE}/1.jpg", f"{E_AND_ACUTE}/2.jpg")
    if len(list(tmp_path.iterdir())) == 2:  # not on a system that takes them for one
        with pytest.raises(InputError, match="holds two folders that are both called 'café'; rename one"):
            read_folders(tmp_path)


def test_masks_are_paired_whichever_way_their_names_are_spelled(tmp_path):
    root = write_root(tmp_path)
    (root / "train/00.png").rename(root / f"train/{E_ACUTE}.png")
    (root / "trainannot/00.png").rename(root / f"trainannot/{E_AND_ACUTE}.png")
    data = dataset(root)
    assert data.train_size == 11


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("/", "\\").replace("\n", "\r").encode(),
    ],
)
def test_lists_and_classes_as_other_systems_write_them(tmp_path, encode):
    make(tmp_path, f"train/{E_ACUTE}/1.jpg", "train/dog/a b.jpg")
    file = tmp_path / "train.txt"
    file.write_bytes(encode(f"{E_ACUTE}/1.jpg 0\ndog/a b.jpg 1\n"))
    listing = read_list(file, [tmp_path / "train"], may_miss=False)
    assert [os.path.basename(listing.paths[place]) for place in (0, 1)] == ["1.jpg", "a b.jpg"]
    root = write_root(tmp_path / "masks")
    (root / "classes.txt").write_bytes(encode(f"{E_ACUTE}\ngreen\nblue\n"))
    assert dataset(root).classes == (E_ACUTE, "green", "blue")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("place", range(3))
def test_splits_by_their_other_names(tree, split, place):
    name = NAMES[split][place % len(NAMES[split])]
    (tree / split).rename(tree / name)
    data = Folder(str(tree))
    assert (data.train_size, len(data._test)) == (12, 9)
    (tree / split).mkdir(exist_ok=True)
    if name != split:
        with pytest.raises(InputError, match=f"there are both .*/{split} and .*/{name}; name the one that counts as"):
            Folder(str(tree)).prepare()
        assert len(getattr(Folder(str(tree), **{f"{split}_folder": name}), f"_{'test' if split == 'val' else split}"))


def test_masks_by_the_third_name_of_a_split(tmp_path):
    root = write_root(tmp_path)
    (root / "val").rename(root / "valid")
    (root / "valannot").rename(root / "validannot")
    assert dataset(root).test_size == 5
    shutil.copytree(root / "valid", root / "val")
    shutil.copytree(root / "validannot", root / "valannot")
    with pytest.raises(InputError, match="holds val pictures both in val and in valid; take one of them away"):
        dataset(root).prepare()


def test_roots_are_read_as_a_shell_reads_them(tree, monkeypatch):
    monkeypatch.setenv("PHOTOS", str(tree))
    monkeypatch.setenv("HOME", str(tree.parent))
    for root in ("$PHOTOS", "${PHOTOS}", f"~/{tree.name}"):
        assert Folder(root).train_size == 12
    monkeypatch.delenv("PHOTOS")
    with pytest.raises(InputError, match=r"^root '\$PHOTOS/x' names the variable \$PHOTOS, which is not set"):
        Folder("$PHOTOS/x").prepare()
    with pytest.raises(InputError, match=f"is not a folder; did you mean '{tree.name}' beside it"):
        Folder(f"{tree}s").prepare()


def test_the_dataset_says_what_is_unusual(tmp_path):
    write_tree(tmp_path)
    assert Folder(str(tmp_path)).unusual() == ()
    make(tmp_path, "train/cat/.ipynb_checkpoints/0.jpg", "val/fox/notes.xml")
    shutil.rmtree(tmp_path / "val/cat")
    assert Folder(str(tmp_path)).unusual() == (
        f"train leaves out hidden folders: 1 ({tmp_path}/train/cat/.ipynb_checkpoints)",
        f"val leaves out files of type .xml: 1 ({tmp_path}/val/fox/notes.xml)",
        "val has no picture of class 'cat'",
    )
    assert len(Folder(str(tmp_path)).unusual(training=False)) == 2
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val").symlink_to("train")
    assert Folder(str(tmp_path)).unusual()[-1].startswith("val is the training pictures again")


def test_masks_say_what_is_left_out(tmp_path):
    root = write_root(tmp_path)
    assert dataset(root).unusual() == ()
    (root / "train/extra.pdf").write_text("")
    assert dataset(root).unusual() == (f"train leaves out files of type .pdf: 1 ({root}/train/extra.pdf)",)


def test_an_empty_folder_holds_nothing(tmp_path):
    assert find_files(tmp_path, EXTENSIONS) == Found([], ())
