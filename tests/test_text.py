import pytest

from switchnorm.errors import InputError
from switchnorm.text import decode, expanded, printable


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_the_same_in_every_encoding(encoding):
    assert decode("é\r\n日本\rx\n".encode(encoding), "f") == "é\n日本\nx\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\nb\xe9c", "notes, line 2: expected text in UTF-8, got byte 0xe9"), (b"\xff\xfe\x00", "notes, line 1: ")],
)
def test_what_is_no_text_is_named(content, message):
    with pytest.raises(InputError) as caught:
        decode(content, "notes")
    assert str(caught.value).startswith(message)


def test_control_characters_are_spelled_out():
    assert printable("a\x1b[31mred\x07\tü\n") == "a\\x1b[31mred\\x07\\tü\n"
    assert printable("(8,\u00a02) \u3000\u2028\u200b") == "(8,\u00a02) \u3000\\u2028\\u200b"


def test_a_path_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"^root is empty; expected a path, which is \. for the folder itself$"):
        expanded("root", "")


def test_a_path_with_a_dollar_that_exists_is_itself(tmp_path):
    (tmp_path / "$odd").mkdir()
    assert expanded("root", str(tmp_path / "$odd")) == tmp_path / "$odd"
