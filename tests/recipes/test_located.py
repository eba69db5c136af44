"""YAML files with their lines, and what is refused by file and line."""

from __future__ import annotations

from datetime import date

import pytest

from switchnorm.errors import InputError
from switchnorm.recipes.located import DEEPEST, LARGEST, Place, read_located


@pytest.fixture
def read(tmp_path):
    def written(text: str | bytes):
        path = tmp_path / "r.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_located(path, "r.yaml")

    return written


def nested(depth: int) -> str:
    """A mapping with lists in lists; the innermost value is on level `depth`."""
    return "a: " + "[" * (depth - 2) + "1" + "]" * (depth - 2)


def test_content_is_what_yaml_reads_and_every_key_knows_its_line(read):
    text = """# a comment
model:
  name: x
  options: {dropout: 0.5, statistics: [instance, {layer: 1}]}

train:
  epochs: 3
seed: null
"""
    found = read(text)
    assert found.content == {
        "model": {"name": "x", "options": {"dropout": 0.5, "statistics": ["instance", {"layer": 1}]}},
        "train": {"epochs": 3},
        "seed": None,
    }
    lines = {
        "model": 2,
        "model.name": 3,
        "model.options": 4,
        "model.options.dropout": 4,
        "model.options.statistics": 4,
        "train": 6,
        "train.epochs": 7,
        "seed": 8,
    }
    assert found.origin == {key: Place("r.yaml", line) for key, line in lines.items()}
    assert str(found.origin["train.epochs"]) == "r.yaml, line 7"


def test_anchors_are_written_out_with_the_lines_that_hold_the_values(read):
    found = read("first: &it\n  a: 1\n  b: [2]\nsecond: *it\nthird:\n  <<: *it\n  a: 3\n")
    both = {"a": 1, "b": [2]}
    assert found.content == {"first": both, "second": both, "third": {"a": 3, "b": [2]}}
    assert [found.origin[key].line for key in ("second", "second.a", "third.a", "third.b")] == [4, 2, 7, 3]


def test_values_of_every_kind_that_yaml_knows_pass(read):
    text = "a: 2024-12-01\nb: 1.0e-4\nc: 'no'\nd: no\ne: []\nf: {}\ng: >\n  two\n  words\n"
    values = [date(2024, 12, 1), 1e-4, "no", False, [], {}, "two words\n"]
    assert list(read(text).content.values()) == values


def test_nesting_and_size_end_at_their_limits(read):
    assert read(nested(DEEPEST)).content
    assert len(read("a: [" + "1, " * (LARGEST - 3) + "]").content["a"]) == LARGEST - 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nb: [1, 2\nc: 3",
            "r.yaml, line 3, column 2: no valid YAML: while parsing a flow sequence, expected ','",
        ),
        ("a: 1\n\tb: 2", "r.yaml, line 2, column 1: no valid YAML: while scanning for the next token, found character"),
        ("a: *b", "r.yaml, line 1, column 4: no valid YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2", "r.yaml, line 2, column 1: no valid YAML: expected a single document in the stream, but"),
        ("a: 1\nb: !!python/name:os.system x", "r.yaml, line 2, column 4: no valid YAML: could not determine"),
        ("a: !mine {b: 1}", "r.yaml, line 1, column 4: no valid YAML: could not determine a constructor"),
        ("a: 1\nb: 2024-13-01", "r.yaml, line 2: no valid YAML: month must be in 1..12"),
        ("a: 1\nb: \0", "r.yaml, line 2: no valid YAML: special characters are not allowed"),
        (b"a: 1\nb: caf\xe9", "r.yaml, line 2: expected text in UTF-8, got byte 0xe9"),
        ("", "r.yaml is no recipe; expected keys"),
        ("# a comment", "r.yaml is no recipe; expected keys"),
        ("- 1", "r.yaml is no recipe; expected keys"),
        ("a: 1\nb: 2\na: 3", "r.yaml, line 3: key 'a' is also set in line 1; leave one of them"),
        ("a:\n  b: {c: 1,\n   d: 2, c: 1}", "r.yaml, line 3: key 'c' is also set in line 2; leave one of them"),
        ("a: [{b: 1, b: 2}]", "r.yaml, line 1: key 'b' is also set in line 1"),
        ("a: 1\ntrain.epochs: 2", "r.yaml, line 2: key 'train.epochs' must be a name without dots; nest keys"),
        ("a: 1\non: 2", "r.yaml, line 2: key True must be a name"),
        ("a: 1\n[b]: 2", "r.yaml, line 2: key ['b'] must be a name"),
        ("a: 1\nb: &x\n  c: [*x]", "r.yaml, line 3: an alias stands inside of what it stands for"),
        ("a: &x\n  <<: *x", "r.yaml, line 2: an alias stands inside of what it stands for"),
        ("a: 1\nb: " + "[" * 3000, f"r.yaml, line 2: nested more than {DEEPEST} deep"),
        ("a: 1\nb: " + "{c: " * 3000, f"r.yaml, line 2: nested more than {DEEPEST} deep"),
        ("\n".join(f"{'  ' * depth}a:" for depth in range(60)), f"line {DEEPEST}: nested more than {DEEPEST} deep"),
        (nested(DEEPEST + 1), f"r.yaml, line 1: nested more than {DEEPEST} deep"),
        (f"a: [{'1, ' * LARGEST}]", f"r.yaml, line 1: more than {DEEPEST} levels or {LARGEST} values"),
    ],
)
def test_what_cannot_be_read_is_refused_by_file_and_line(read, text, message):
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value).startswith(message) or f"r.yaml, {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_aliases_that_multiply_are_refused_at_the_line_where_they_are_too_many(read):
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))
    with pytest.raises(InputError, match=r"r\.yaml, line 4: more than 32 levels or 10000 values"):
        read(text)


def test_aliases_that_nest_ever_deeper_are_refused(read):
    text = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))
    with pytest.raises(InputError, match=r"r\.yaml, line 32: more than 32 levels"):
        read(text)
