"""Pickles as data: what they may hold is read as it was, and nothing else."""

import io
import pickle
from collections import Counter, OrderedDict

import pytest

from switchnorm.unpickling import CONTAINERS, Inert, Maker, Program, unpickle


def read(content: bytes, **names):
    return unpickle(Program(io.BytesIO(content), len(content)), {**CONTAINERS, **names})


VALUE = {
    "text": ["", "ä", "中" * 300],
    "bytes": b"\x00\xff",
    "numbers": (0, -1, 2**40, 2**70, 0.5, float("inf"), True, None),
    "ordered": OrderedDict([("b", 1), ("a", (1, (2, [3])))]),
    "counter": Counter({3: 2}),
    "set": {1, "a"},
    "complex": 1 + 2j,
    ("a", "b"): {0: {}},
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_containers_are_read_as_they_were(protocol):
    found = read(pickle.dumps(VALUE, protocol))
    assert found == VALUE
    assert {type(value) for value in found.values()} == {type(value) for value in VALUE.values()}


def test_bytes_that_change_are_not_kept():
    assert isinstance(read(pickle.dumps(bytearray(3), 2)), Inert)


def test_an_ordered_dict_keeps_its_order_and_no_attributes():
    value = OrderedDict([("b", 1), ("a", 2)])
    value._metadata = OrderedDict(a=1)
    found = read(pickle.dumps(value, 2))
    assert list(found.items()) == [("b", 1), ("a", 2)]
    assert vars(found) == {}


def test_stand_ins_are_made_of_what_the_pickle_says():
    assert read(b"\x80\x02cmine\nname\nK\x03\x85R.", **{"mine.name": Maker(lambda n: n + 1)}) == 4


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\n.", "asks for 'os.system'"),
        (b"c" + b"a" * 2000 + b"\n.", "a name of more than"),
        (b"X\x01\0\0\0aK\x01\x85R.", "calls what cannot be called"),
        (b"]K\x01b.", "list takes no state"),
        (b"]K\x01K\x02s.", "list takes no entries"),
        (b"}]K\x01s.", "list is no key"),
        (b"}}\x85K\x01s.", "tuple is no key"),
        (b"K\x01Q.", "asks for what is not in the file"),
        (b"ccollections\nCounter\n]\x85R.", "a counter is made of"),
        (b"}X" + b"\x11\x27\0\0" + b"a" * 10_001 + b"Ns.", "str is no key"),
        (b"}(" + b"U\0" * 17 + b"tNs.", "tuple is no key"),
        (b"cbuiltins\nset\nX\x02\0\0\0ab\x85R.", "a set is made of a list"),
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0utf16\x86R.", "encoding"),
    ],
)
def test_programs_that_ask_for_more_are_refused(program, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        read(b"\x80\x02" + program)


@pytest.mark.parametrize(
    "program", [b"(K\x01\x90.", b"P1\n.", b"ios\nmkdir\n.", b"c__builtin__\ncomplex\n]\x85R.", b"h\0.", b""]
)
def test_damaged_programs_raise_something(program):
    with pytest.raises(Exception, match=r".*"):
        read(b"\x80\x02" + program)


@pytest.mark.parametrize(
    ("maker", "whole"),
    [
        (b"ccollections\nCounter\n", b"}(" + b"".join(b"J%sN" % n.to_bytes(4, "little") for n in range(9999)) + b"u"),
        (b"cbuiltins\nset\n", b"](" + b"".join(b"J%s" % n.to_bytes(4, "little") for n in range(9999)) + b"e"),
        (b"c_codecs\nencode\n", b"X\0\0\x10\0" + b"a" * (1 << 20)),
    ],
)
def test_copies_of_what_is_named_again_are_paid_for(maker, whole):
    program = b"\x80\x02" + maker + b"q\0" + whole + b"\x85q\1(" + b"h\0h\1R" * 1000 + b"t."
    with pytest.raises(pickle.UnpicklingError, match="more steps than"):
        read(program)
