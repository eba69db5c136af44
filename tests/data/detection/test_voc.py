"""Folders in Pascal VOC's format: layouts, corners, difficult objects, and what is wrong with them."""

import pytest

from switchnorm.data import Voc
from switchnorm.data.detection.voc_file import read_voc
from switchnorm.errors import InputError
from tests.data.detection.formats import SHEETS, write_pictures, write_voc, xml_of


def voc(root, **options):
    return Voc(str(root), workers=0, **options)


def rewrite(root, *changes, name="a"):
    path = root / f"Annotations/{name}.xml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def beside(root, pictures, annotations):
    write_pictures(root / pictures)
    (root / annotations).mkdir(parents=True, exist_ok=True)
    for sheet in SHEETS:
        (root / annotations / sheet.name.replace(".jpg", ".xml")).write_text(xml_of(sheet))


@pytest.mark.parametrize("below", [".", "VOC2007", "VOCdevkit/VOC2012"])
def test_the_folder_may_be_that_of_a_year(tmp_path, below):
    write_voc(tmp_path / below)
    assert voc(tmp_path).train_size == 3


def test_of_two_years_one_has_to_be_named(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        write_voc(tmp_path / "VOCdevkit" / year)
    with pytest.raises(InputError, match=r"holds VOC2007, VOC2012; name one as data\.root: .*VOC2007"):
        voc(tmp_path).prepare()


@pytest.mark.parametrize(
    ("pictures", "annotations"),
    [
        ("train", "train"),
        ("training", "training"),
        ("train/images", "train/annotations"),
        ("images/train", "annotations/train"),
        ("train/JPEGImages", "train/Annotations"),
    ],
)
def test_layouts_without_lists(tmp_path, pictures, annotations):
    beside(tmp_path, pictures, annotations)
    data = voc(tmp_path)
    data.prepare()
    assert (data.train_size, data.classes, data.unusual()) == (3, ("cat", "dog"), ())


def test_trainval_is_for_the_test_pictures(tmp_path):
    write_voc(tmp_path, {"train": SHEETS[:1], "val": SHEETS[1:2], "trainval": SHEETS[:2], "test": SHEETS[2:]})
    data = voc(tmp_path, train_split="trainval", split="test")
    assert (data.train_size, data.test_size) == (2, 1)
    with pytest.raises(InputError, match="holds the pictures of split 'val'; set split to 'test'"):
        voc(tmp_path, train_split="trainval")


def test_corners_are_edges_or_pixels_from_1(tmp_path):
    write_voc(tmp_path)
    assert voc(tmp_path)._train.objects(0).boxes[0].tolist() == [3, 4, 20, 16]
    assert voc(tmp_path, one_based=True)._train.objects(0).boxes[0].tolist() == [2, 3, 20, 16]
    rewrite(tmp_path, ("<filename>", "<source><database>The VOC2007 Database</database></source><filename>"))
    assert "count pixels from 1" in voc(tmp_path).unusual()[-1]
    assert not any("from 1" in line for line in voc(tmp_path, one_based=True).unusual())


def test_a_list_may_have_extensions_and_other_spellings_than_the_files(tmp_path):
    write_voc(tmp_path)
    for file in ("JPEGImages/a.jpg", "Annotations/a.xml"):
        path = tmp_path / file
        path.rename(path.with_name(f"cafe\u0301{path.suffix}"))
    (tmp_path / "Annotations/b.xml").rename(tmp_path / "Annotations/b.XML")
    for split in ("train", "val"):
        (tmp_path / f"ImageSets/Main/{split}.txt").write_text("caf\u00e9.jpg\nb\nc.jpg\n", "utf-8")
    assert voc(tmp_path)._train.counts.tolist() == [2, 0, 1]


def test_an_object_within_an_object_is_refused_and_parts_are_none(tmp_path):
    write_voc(tmp_path)
    path = tmp_path / "Annotations/c.xml"
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    rewrite(tmp_path, ("</bndbox></object>", f"</bndbox><part><name>ear</name>{box}</part></object>"), name="c")
    assert [each.name for each in read_voc(path).objects] == ["cat"]
    rewrite(tmp_path, ("<part>", "<object>"), ("</part>", "</object>"), name="c")
    with pytest.raises(InputError, match=r"c\.xml, line 3: an object within an object; expected") as caught:
        read_voc(path)
    assert str(caught.value).count("c.xml") == 1


def test_difficult_objects_do_not_count(tmp_path):
    write_voc(tmp_path)
    rewrite(tmp_path, ("<difficult>0", "<difficult>1"))
    assert voc(tmp_path)._train.objects(0).crowd.tolist() == [True, False]
    assert "train: 1 of 3 objects are difficult, which are neither learned nor counted" in voc(tmp_path).unusual()
    assert not voc(tmp_path, difficult="keep")._train.crowd.any()


def test_parts_of_objects_are_none(tmp_path):
    write_voc(tmp_path)
    part = "<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>7</ymax></bndbox></part>"
    rewrite(tmp_path, ("</object>", f"{part}</object>"))
    data = voc(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data._train.objects(0).boxes[0].tolist() == [3, 4, 20, 16]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_size_that_is_not_stated_is_that_of_the_picture(tmp_path, size):
    write_voc(tmp_path)
    rewrite(tmp_path, ("<size><width>40</width><height>30</height><depth>3</depth></size>", size))
    assert voc(tmp_path)._train.size(0) == (30, 40)


def test_a_size_that_is_not_the_pictures_is_refused_or_skipped(tmp_path):
    write_voc(tmp_path)
    rewrite(tmp_path, ("<width>40", "<width>80"))
    with pytest.raises(InputError, match=r"a\.jpg is 40x30; expected 80x30 as .*a\.xml states; mend it, or set on_dam"):
        voc(tmp_path).prepare()
    data = voc(tmp_path, on_damaged="skip")
    assert data.train_size == 2
    assert "train leaves out pictures of another size than is stated: 1" in data.unusual()[0]
    assert data._train.objects(1).boxes.tolist() == [[0, 0, 36, 24]]


def test_files_without_a_counterpart(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "Annotations/b.xml").unlink()
    with pytest.raises(InputError, match=r"Annotations/b\.xml is missing"):
        voc(tmp_path).prepare()
    assert "pictures whose annotations cannot be read: 1" in voc(tmp_path, on_damaged="skip").unusual()[0]
    beside(tmp_path / "two", "train", "train")
    (tmp_path / "two/train/b.jpg").unlink()
    assert "train leaves out annotations without a picture: 1" in voc(tmp_path / "two").unusual()[0]
    (tmp_path / "two/train/c.xml").unlink()
    with pytest.raises(InputError, match=r"1 of the 2 pictures in .* have no annotation, the first is c\.jpg"):
        voc(tmp_path / "two").prepare()
    data = voc(tmp_path / "two", on_damaged="skip")
    assert (data.train_size, len(data._train.objects(0).labels)) == (1, 2)


def test_a_list_of_one_class_is_known_for_one(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a 1\nb -1\n")
    with pytest.raises(InputError, match="a list of one class has 1 or -1 behind each name"):
        voc(tmp_path).prepare()


def test_a_picture_that_is_listed_twice_is_named(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\na\n")
    with pytest.raises(InputError, match=r"train\.txt: 1 pictures are listed twice, the first is 'a'"):
        voc(tmp_path).prepare()


def test_a_class_of_the_test_pictures_alone_is_named(tmp_path):
    write_voc(tmp_path, {"train": SHEETS[2:], "val": SHEETS})
    with pytest.raises(InputError, match=r"class of .*val\.txt 'dog' is unknown.*data\.names says which"):
        voc(tmp_path).prepare()


WRONG = {
    "nothing": (lambda text: "", "no element found"),
    "no XML": (lambda text: text[:150], r"line \d+: no XML that can be read"),
    "another root": (lambda text: text.replace("annotation>", "note>"), "expected <annotation>, got <note>"),
    "no name": (lambda text: text.replace("<name>dog</name>", ""), "line 2: the object has no name of a class"),
    "no corner": (lambda text: text.replace("<ymin>4</ymin>", ""), "line 2: the object has no ymin; expected <bndbox>"),
    "a corner of words": (lambda text: text.replace(">4<", ">four<"), "line 2: the object has ymin 'four'"),
    "a corner of NaN": (lambda text: text.replace(">4<", ">nan<"), "ymin 'nan'; expected a number"),
    "two corners of a name": (
        lambda text: text.replace("<ymin>4</ymin>", "<xmin>4</xmin>"),
        "the object has a second xmin",
    ),
    "a size of words": (lambda text: text.replace("<width>40", "<width>wide"), "has size 'wide'"),
    "a negative size": (lambda text: text.replace("<width>40", "<width>-40"), "has size '-40'"),
    "difficult of words": (lambda text: text.replace("<difficult>0", "<difficult>very"), "difficult 'very'; expected"),
    "nested elements": (lambda text: "<annotation>" + "<a>" * 5000, "nested more than 32 deep"),
    "a document type": (lambda text: "<!DOCTYPE a>" + text, "a document type; annotations have none"),
    "an entity in itself": (
        lambda text: '<!DOCTYPE a [<!ENTITY b "&c;"><!ENTITY c "&b;">]><annotation>&b;</annotation>',
        "a document type",
    ),
    "an unknown entity": (lambda text: text.replace("dog", "&dog;"), "undefined entity"),
    "an unknown encoding": (lambda text: '<?xml version="1.0" encoding="x-none"?>' + text, "unknown encoding"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_named(tmp_path, wrong):
    change, said = WRONG[wrong]
    path = tmp_path / "a.xml"
    path.write_text(change(xml_of(SHEETS[0])))
    with pytest.raises(InputError, match=said) as caught:
        read_voc(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
