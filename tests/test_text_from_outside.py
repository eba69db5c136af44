"""JSON that somebody else wrote, and names that end on a terminal."""

import pytest

from switchnorm.errors import InputError
from switchnorm.text import from_json, say

REFUSED = {
    "nesting": ('{"a": ' + "[" * 40 + "]" * 40 + "}", "nests more than 32 deep"),
    "nesting beyond Python's": ("[" * 3000, "nests more than 32 deep"),
    "a key twice": ('{"a": 1, "a": 2}', "key 'a' is set twice"),
    "digits": ("9" * 5000, "a number has 5000 digits"),
    "a number without end": ("1e999", "the number 1e999 is too large"),
    "half a pair": ('["\\ud800"]', "surrogates not allowed"),
    "a key of half a pair": ('{"\\ud800": 1}', "surrogates not allowed"),
    "no JSON": ("{", "is no JSON that can be read"),
    "nothing": ("", "is no JSON that can be read"),
    "length": (" " * (9 << 20), "more than 8 MB"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_json_is_refused_in_one_line(what):
    text, message = REFUSED[what]
    with pytest.raises(InputError, match=r"^x\.json is no JSON") as caught:
        from_json(text, "x.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_that_python_wrote_is_read():
    assert from_json('{"a": [1, -2.5, null, true, "ä\\u0000"], "b": {}}', "x") == {
        "a": [1, -2.5, None, True, "ä\0"],
        "b": {},
    }
    assert from_json("Infinity", "x") == float("inf")


def test_what_is_said_acts_on_no_terminal(capsys):
    say("a\x1b[31mred\x07", "[bold]b[/bold]")
    assert capsys.readouterr().out == "a\\x1b[31mred\\x07\n[bold]b[/bold]\n"
