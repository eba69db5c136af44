"""Pictures and objects as tensors: rows of different lengths, run lengths, and files read entry by entry."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as witness

from switchnorm.data import Coco
from switchnorm.data.detection import json_stream
from switchnorm.data.detection.json_stream import read_lists
from switchnorm.data.detection.mask_writing import MaskWriter
from switchnorm.data.detection.ragged import Ragged
from switchnorm.data.detection.run_lengths import compressed
from switchnorm.errors import InputError
from tests.data.detection.formats import SHEETS, Sheet, Thing, write_coco


def test_rows_of_different_lengths(monkeypatch):
    rows = [[1, 2], [], [3], [4, 5, 6], []]
    ragged = Ragged.of(torch.tensor([1, 2, 3, 4, 5, 6]), map(len, rows))
    assert [ragged.row(place).tolist() for place in range(ragged.rows)] == rows
    monkeypatch.setattr("switchnorm.data.detection.ragged._BLOCK", 2)
    for order in ([3, 0, 0, 4, 2], [1], [], [4, 3, 2, 1, 0]):
        taken = ragged.taken(torch.tensor(order, dtype=torch.int64))
        assert [taken.row(place).tolist() for place in range(taken.rows)] == [rows[place] for place in order]


@pytest.fixture
def listed(tmp_path):
    ring = (4.0, 3.0, 30.0, 6.0, 20.0, 25.0)
    things = (Thing("dog", (4, 3, 30, 25), ring), Thing("cat", (1, 1, 5, 6), (1.0, 1.0, 5.0, 1.0, 5.0, 6.0)))
    write_coco(tmp_path, {"train": (*SHEETS[1:], Sheet("d.jpg", (40, 30), things))})
    return Coco(str(tmp_path))._train


def test_pictures_can_be_taken_in_any_order(listed):
    taken = listed.taken(torch.tensor([2, 0, 2]))
    assert [taken.name(place) for place in range(3)] == ["d.jpg", "b.jpg", "d.jpg"]
    assert taken.sizes.tolist() == [[30, 40], [36, 24], [30, 40]]
    assert taken.ids.tolist() == [12, 10, 12]
    assert taken.counts.tolist() == [2, 0, 2]
    for place in (0, 2):
        found, wanted = taken.objects(place), listed.objects(2)
        assert all(map(torch.equal, found[:4], wanted[:4]))
        assert found.masks == wanted.masks


def test_a_worker_gets_the_same_objects(listed):
    other = pickle.loads(pickle.dumps(listed))
    for place in range(3):
        assert all(map(torch.equal, other.objects(place)[:4], listed.objects(place)[:4]))
        assert other.objects(place).masks == listed.objects(place).masks


def test_objects_are_nobody_elses(listed):
    listed.objects(2).boxes.zero_()
    assert listed.objects(2).boxes.any()


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_those_of_pycocotools(seed):
    draw = np.random.default_rng(seed)
    height, width = draw.integers(1, 90, 2).tolist()
    mask = np.asfortranarray(draw.random((height, width)) < draw.random(), np.uint8)
    text = witness.encode(mask)["counts"]
    flat = mask.T.ravel()
    runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]).tolist()
    assert compressed(text.decode(), [height, width]) == text
    assert compressed(runs if not flat[0] else [0, *runs], [height, width]) == text


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        ("", [2, 2]),
        ("P", [2, 2]),
        ("4\n", [2, 2]),
        ("o" * 20 + "0", [2, 2]),
        ("5", [2, 2]),
        ("L4", [2, 2]),
        ([5], [2, 2]),
        ([-1, 5], [2, 2]),
        ([1.0, 3.0], [2, 2]),
        ([True, 3], [2, 2]),
        (None, [2, 2]),
        ([4], [2]),
        ([4], [2, "2"]),
        ([0], [0, 3]),
        ("é", [2, 2]),
    ],
)
def test_run_lengths_that_are_none_are_refused(counts, size):
    with pytest.raises(ValueError, match="run lengths"):
        compressed(counts, size)


CONTENT = {
    "info": {"a": [1, {"b": 'c"]}\\'}], "n": -1.5e-3},
    "flag": None,
    "first": [{"id": n, "text": 'é"\\ud83d\\n' * (n % 3), "numbers": [n / 7, -n]} for n in range(50)],
    "empty": [],
    "second": [1, "two", [3.25, [4]], None, -12345],
}


@pytest.mark.parametrize("block", [1, 2, 7, 64, 1 << 22])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("indent", [None, 1])
def test_lists_are_read_in_blocks_of_any_size(tmp_path, monkeypatch, block, encoding, indent):
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    (tmp_path / "a.json").write_text(json.dumps(CONTENT, ensure_ascii=False, indent=indent), encoding=encoding)
    found = {"first": [], "second": [], "empty": []}
    keys = read_lists(tmp_path / "a.json", "it", {key: entries.append for key, entries in found.items()})
    assert keys == set(CONTENT)
    assert found == {key: CONTENT[key] for key in found}


@pytest.mark.parametrize("block", [1, 5, 1 << 22])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": [1, 2}', "line 1: no JSON that can be read: expected ',' or ']'"),
        ('{"a": [1\n,\n, 2]}', "line 3: no JSON that can be read: Expecting value"),
        ('{"a": [{"b": 1, "b": 2}]}', "key 'b' is set twice"),
        ('{"a": []} {}', "expected nothing after the object"),
        ('{"a": [1], }', "Expecting value"),
        ('{"c": [[1}', "it ends within a value"),
        ('{"a" [1]}', "expected ':' after key 'a'"),
        ("{3: [1]}", "expected a key"),
        ('{"a": [tru]}', "Expecting value"),
        ('{"a": ["abc', "Unterminated string"),
    ],
)
def test_what_is_no_json_is_named_with_its_line(tmp_path, monkeypatch, block, text, said):
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_lists(tmp_path / "a.json", "it", {"a": lambda _: None})
    assert said in str(caught.value)


def test_text_of_another_encoding_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": ["\xe9"]}')
    with pytest.raises(InputError, match="is no text in UTF-8"):
        read_lists(tmp_path / "a.json", "it", {"a": lambda _: None})


@given(st.integers(0, 100_000))
@settings(max_examples=60)
def test_masks_without_pixels_are_found_as_by_drawing_all(seed):
    """Hairs, slivers, stars, small ones and large ones, some of them beside their picture."""
    draw = np.random.default_rng(seed)
    writer, sizes = MaskWriter(), draw.integers(1, 30, (40, 2))
    for _ in sizes:
        outlines = []
        for _ in range(draw.integers(1, 3)):
            points = draw.uniform(0, 30, 2) + draw.uniform(-1, 1, (draw.integers(3, 9), 2)) * 4 ** draw.uniform(
                -2, 2, 2
            )
            outlines.append(points @ np.linalg.qr(draw.normal(size=(2, 2)))[0] if draw.random() < 0.3 else points)
        writer.add_outlines([each.ravel().tolist() for each in outlines], (0, 0, 1, 1))
    stored = writer.finish()
    drawn = [witness.area(stored.rle(place, tuple(size))) for place, size in enumerate(sizes.tolist())]
    assert stored.without_pixels(sizes).tolist() == [place for place, area in enumerate(drawn) if not area]
