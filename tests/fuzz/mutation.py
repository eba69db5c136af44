"""Damaged copies of files: a function of a seed, so that whatever is found can be found again."""

from __future__ import annotations

import random

# What numbers in files are compared with, and what the parsers of this package act on.
_NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_WORDS = (
    *(
        b"[" * 400,
        b"{" * 400,
        b"(" * 400,
        b'{"a":' * 200,
        b"- " * 200,
        b"&a [*a]",
        b"<<: *a",
        b"!!float x",
        b"!!bool x",
    ),
    *(b"\0", b"\x1b[31m", b"\xef\xbb\xbf", b"\xff\xfe", b"1e999", b"-1", b"nan", b"9" * 5000, b"=cmd()", b"\r\n", b'"'),
    *(b"../../../../etc/passwd", b"\xed\xa0\x80", b"\\ud800", b",,,,", b"0x" + b"f" * 6000, b"1:" * 300, b"]", b"}"),
    # Programs of pickles: nothing that is closed, doubled tuples, huge memos and texts, names that act.
    *(
        b"\x85" * 300,
        b"2\x86" * 60,
        b"r\xff\xff\xff\x7f",
        b"\x8d" + b"\xff" * 8,
        b"cos\nsystem\n",
        b"\x8a\xff",
        b"Q",
        b"R",
    ),
    *(
        b"cbuiltins\nbytearray\nJ\0\0\0\x7f\x85R",
        b"ctorch\nTensor\nJ\0\0\0\x7f\x85R",
        b"ctorch\nQInt8Storage\n",
        b"b",
        b"s",
    ),
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to eight changes."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        place = chance.randrange(len(data) + 1)
        span = min(chance.choice((1, 2, 4, 8, 64, 1024)), len(data) - place)
        kind = chance.randrange(8)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1 and place < len(data):
            data[place] = chance.randrange(256)
        elif kind == 2:
            width = chance.choice((1, 2, 4, 8))
            number = chance.choice(_NUMBERS) & ((1 << 8 * width) - 1)
            data[place : place + width] = number.to_bytes(width, chance.choice(("little", "big")))
        elif kind == 3:
            del data[place : place + span]
        elif kind == 4:
            data[place:place] = data[place : place + span] * chance.choice((1, 2, 30))
        elif kind == 5:
            data[place:place] = chance.choice(_WORDS)
        elif kind == 6:
            word = chance.choice(_WORDS)
            data[place : place + len(word)] = word
        else:
            other = chance.randrange(len(data) + 1)
            data[place : place + span] = data[other : other + span]
    if chance.random() < 0.1:
        del data[chance.randrange(len(data) + 1) :]
    return bytes(data)
