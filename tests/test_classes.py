"""Names of classes, as data, runs and checkpoints have them."""

import unicodedata

import pytest

from switchnorm.classes import Classes, classes_in, labels_among, lacking, mapped, same

KNOWN = ("cat", "dog", "fox")


def test_labels_among_known_classes():
    assert labels_among(KNOWN, KNOWN, "it") == (0, 1, 2)
    assert labels_among(("fox", "cat"), KNOWN, "it") == (2, 0)
    assert labels_among((), KNOWN, "it") == ()
    accents = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    assert accents[0] != accents[1]
    assert labels_among([accents[1]], ("tea", accents[0]), "it") == (1,)
    assert same([accents[0]], [accents[1]])


def test_a_class_that_is_unknown_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"class of it 'dogs' is unknown; did you mean 'dog'\?"):
        labels_among(("cat", "dogs"), KNOWN, "it")


def test_names_that_stand_for_two_classes_map_nothing():
    twice = ("crane", "cat", "crane")
    assert labels_among(twice, twice, "it") == (0, 1, 2)
    with pytest.raises(ValueError, match="two of which have one name"):
        labels_among(("cat", "crane"), twice, "it")


@pytest.mark.parametrize(
    ("names", "moved", "absent"),
    [
        ({0: "cat", 1: "dog", 2: "fox"}, "", ""),
        ({0: "fox", 1: "dog", 2: "cat"}, "(fox 0 -> 2, cat 2 -> 0)", ""),
        ({0: "cat", 1: "dog"}, "", "1 of the run's 3 classes (fox)"),
        ({1: "cat", 2: "dog", 3: "fox"}, "(cat 1 -> 0, dog 2 -> 1, fox 3 -> 2)", ""),
    ],
)
def test_what_is_said_about_a_mapping(names, moved, absent):
    assert mapped(names, KNOWN) == (f"labels are mapped by name to the run's 3 classes {moved}" if moved else "")
    assert lacking(names.values(), KNOWN) == absent


def test_a_long_mapping_is_a_short_line():
    known = [f"c{number:03}" for number in range(300)]
    assert mapped(dict(enumerate(known[150:])), known) == (
        "labels are mapped by name to the run's 300 classes (c150 0 -> 150, c151 1 -> 151, c152 2 -> 152, ...)"
    )
    assert lacking(known[150:], known) == "150 of the run's 300 classes (c000, c001, c002, ...)"


def test_entries_there_and_back():
    for classes in (Classes(KNOWN), Classes(KNOWN, ("#000000", "#0a0b0c", "#ffffff"))):
        assert classes_in(classes.entries(), "it") == classes
    assert classes_in({}, "it") is None
