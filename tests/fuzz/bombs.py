"""Small files that ask for much: memory, time, nesting, names. Readers have given in to each."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable

import torch

from tests.weights.files import layout, storages_member, triple, write_tar

GIGABYTES = 2_000_000_000


def packed(program: bytes, *storages: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """A checkpoint of a program, with storages "0", "1", ..."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        made.writestr("a/data.pkl", program)
        for key, storage in enumerate(storages):
            made.writestr(f"a/data/{key}", storage)
    return target.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def storage(count: int, kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu") + number(count) + b"tQ"


def tensor(count: int, size: int, stride: int, offset: int = 0) -> bytes:
    """The program of a tensor, (size,), in a storage of so many numbers."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(count) + number(offset) + number(size) + b"\x85"
        + number(stride) + b"\x85\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def state(value: bytes) -> bytes:
    """The program of a state dict with one entry."""
    return b"\x80\x02}" + text("a") + value + b"s."


def saved(value: object) -> bytes:
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def inflating(size: int, declared: int | None = None) -> bytes:
    """A checkpoint of so many zeros, compressed, which may say that they are fewer."""
    content = bytearray(packed(state(tensor(size // 4, size // 4, 1)), bytes(size), method=zipfile.ZIP_DEFLATED))
    if declared is not None:
        real = struct.pack("<I", size)
        assert content.count(real) == 2
        content = content.replace(real, struct.pack("<I", declared))
    return bytes(content)


def overlapping() -> bytes:
    """Checkpoints of a thousand storages that are one: the list of entries names the same place a thousand times."""
    numbers, count = bytes(1 << 20), 1000
    made = bytearray(
        b"PK\3\4" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0, zlib.crc32(numbers), 1 << 20, 1 << 20, 1, 0) + b"n" + numbers
    )
    items = b"".join(
        text(f"k{n}") + tensor(1 << 18, 1 << 18, 1).replace(text("0") + text("cpu"), text(str(n)) + text("cpu"))
        for n in range(count)
    )
    program = b"\x80\x02}(" + items + b"u."
    entries = [("a/data.pkl", len(made), program)] + [(f"a/data/{n}", 0, numbers) for n in range(count)]
    made += (
        b"PK\3\4"
        + struct.pack("<5H3I2H", 20, 0, 0, 0, 0, zlib.crc32(program), len(program), len(program), 1, 0)
        + b"p"
        + program
    )
    begin = len(made)
    for name, place, content in entries:
        made += (
            b"PK\1\2"
            + struct.pack(
                "<6H3I5H2I",
                20,
                20,
                0,
                0,
                0,
                0,
                zlib.crc32(content),
                len(content),
                len(content),
                len(name),
                0,
                0,
                0,
                0,
                0,
                place,
            )
            + name.encode()
        )
    made += b"PK\5\6" + struct.pack("<4H2IH", 0, 0, count + 1, count + 1, len(made) - begin, begin, 0)
    return bytes(made)


def many_entries() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for place in range(3):
            made.writestr(str(place), b"")
    content = target.getvalue()
    begin = content.index(b"PK\1\2")
    entry, end = content[begin : content.index(b"PK\1\2", begin + 1)], content[content.index(b"PK\5\6") :]
    listed = entry * 200_000
    return content[:begin] + listed + end[:12] + struct.pack("<2IH", len(listed), begin, 0)


def colliding_keys() -> bytes:
    keys = b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(2**8, 2**8 + 60_000))
    return b"\x80\x02}(" + keys + b"u."


def legacy(program: bytes, rest: bytes = b"") -> bytes:
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(value, 2) for value in head) + program + rest


def tar(**members: bytes) -> bytes:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        write_tar({"a": torch.zeros(3)}, Path(folder) / "x", **members)
        return (Path(folder) / "x").read_bytes()


def safetensors(header: bytes, content: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + content


def described(**entries: object) -> bytes:
    return json.dumps(entries).encode()


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

#: Checkpoints that are refused.
CHECKPOINTS: dict[str, Callable[[], bytes]] = {
    "bytes by number": lambda: packed(state(b"cbuiltins\nbytearray\n" + number(GIGABYTES) + b"\x85R")),
    "a tensor by size": lambda: packed(state(b"ctorch\nTensor\n" + number(1_500_000_000) + b"\x85R")),
    "a typed tensor by size": lambda: packed(state(b"ctorch\nFloatTensor\n" + number(1_500_000_000) + b"\x85R")),
    "a storage by size": lambda: packed(state(b"ctorch\nFloatStorage\n" + number(1_500_000_000) + b"\x85R")),
    "one number a trillion times": lambda: packed(state(tensor(1, 10**12, 0)), bytes(4)),
    "a stride beyond the storage": lambda: packed(state(tensor(2, 2, 10**12)), bytes(8)),
    "an offset beyond the storage": lambda: packed(state(tensor(2, 1, 1, 10**12)), bytes(8)),
    "a storage that says it is longer": lambda: packed(state(tensor(10**12, 10**12, 1)), bytes(8)),
    "no numbers at all": lambda: saved({"a": torch.empty(10**15, device="meta")}),
    "zeros that inflate": lambda: inflating(100_000_000),
    "zeros that say they are fewer": lambda: inflating(20_000_000, 1000),
    "entries that overlap": overlapping,
    "entries without end": many_entries,
    "sets without end": lambda: packed(b"\x80\x02(" + b"\x8f" * 600_000 + b"t."),
    "lists without end": lambda: packed(b"\x80\x02(" + b"]" * 1_400_000 + b"t."),
    "a key that is long to compare": lambda: packed(
        b"\x80\x02" + text("a" * 1_000_000) + b"q\0" + text("a" * 1_000_000) + b"q\1}" + b"h\0Nsh\1Ns" * 90_000 + b"."
    ),
    "copies by way of a tensor's class": lambda: packed(
        b"\x80\x02}(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(20_000)) + b"u\x85q\2"
        b"ctorch._tensor\n_rebuild_from_type_v2\nq\0(ccollections\nCounter\nNh\2Ntq\1(" + b"h\0h\1R" * 500 + b"t."
    ),
    "a memo without end": lambda: packed(b"\x80\x02Nr\xff\xff\xff\x7f."),
    "a key of nested tuples": lambda: packed(b"\x80\x02}N" + b"\x85" * 400_000 + b"Ns."),
    "a key of doubled tuples": lambda: packed(b"\x80\x02}N" + b"q\0h\0\x86" * 60 + b"Ns."),
    "keys that collide": lambda: packed(colliding_keys()),
    "lists in lists": lambda: packed(state(b"]" * 100_000 + b"a" * 99_999)),
    "a list in itself": lambda: packed(state(b"]q\0h\0a")),
    "doubled lists": lambda: packed(state(b"N" + b"q\0h\0\x86" * 60)),
    "text of wide characters": lambda: packed(
        state(b"X" + struct.pack("<I", 48 << 20) + ("é" * 3 + "中").encode().ljust(48 << 20, b"a"))
    ),
    "a long of a gigabyte": lambda: packed(b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"."),
    "text of an exabyte": lambda: packed(b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"."),
    "a frame of an exabyte": lambda: packed(b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N."),
    "a legacy storage of a terabyte": lambda: legacy(state(tensor(1 << 40, 1 << 40, 1))),
    "legacy storages that are not there": lambda: legacy(state(tensor(2, 2, 1)), pickle.dumps([], 2)),
    "a legacy storage of another length": lambda: legacy(
        state(tensor(2, 2, 1)), pickle.dumps(["0"], 2) + struct.pack("<q", 1 << 40) + bytes(8)
    ),
    "a tar tensor of a trillion": lambda: tar(
        tensors=pickle.dumps(1, 2) + triple(1000, 0, ("torch", "FloatTensor")) + layout((1 << 40,), (0,), 0)
    ),
    "a tar storage of a petabyte": lambda: tar(
        storages=pickle.dumps(1, 2) + triple(0, "cpu", ("torch", "FloatStorage")) + struct.pack("<q", 1 << 50)
    ),
    "tar storages without end": lambda: tar(storages=pickle.dumps(1 << 60, 2) + storages_member([])[4:]),
    "a safetensors header of an exabyte": lambda: safetensors(b"{}", length=1 << 60),
    "a safetensors header of 20 MB": lambda: safetensors(b'{"a":' + b" " * (20 << 20) + b"1}"),
    "a nested safetensors header": lambda: safetensors(b'{"a":' + b"[" * 100_000),
    "safetensors that overlap": lambda: safetensors(described(a=F32, b=F32), bytes(8)),
    "safetensors outside of the file": lambda: safetensors(
        described(a={**F32, "data_offsets": [0, 1 << 40], "shape": [1 << 38]})
    ),
    "safetensors of another length": lambda: safetensors(described(a={**F32, "shape": [1 << 40]}), bytes(8)),
    "safetensors metadata of nested lists": lambda: safetensors(
        described(a=F32, __metadata__={"switchnorm": "1", "origin": "[" * 100_000}), bytes(8)
    ),
}

#: Pickles of CIFAR that are refused.
IMAGES = {
    "a memo without end": b"\x80\x02Nr\xff\xff\xff\x07.",
    "bytes by number": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "an array by its shape": b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    + number(1 << 40)
    + b"\x85U\x01b\x87Rs.",
    "no end": b"\x80\x02",
}

#: Files in COCO's format that are refused.
COCO = {
    "brackets": b'{"images": ' + b"[" * 1_000_000,
    "braces in a key that is passed over": b'{"info": ' + b'{"a":' * 200_000,
    "text without an end": b'{"images": [{"file_name": "' + b"a" * 5_000_000,
    "text without an end that is passed over": b'{"info": ["' + b"\\" * 5_000_001,
    "a number without an end": b'{"images": [' + b"9" * 3_000_000,
    "spaces": b'{"images":' + b" " * 5_000_000,
    "commas": b'{"images": [' + b"1," * 1_000_000,
    "keys of a thousand kinds": b"{" + b",".join(b'"a%d":1' % (n % 1000) for n in range(100_000)),
    "runs of gigabytes": b'{"images": [{"id": 1, "file_name": "1.jpg", "width": 65535, "height": 65535}], "categories":'
    b' [{"id": 3, "name": "a"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2],'
    b' "segmentation": {"size": [65535, 65535], "counts": "' + b"o" * 1_000_000 + b'0"}}]}',
    "an outline to the stars": b'{"images": [{"id": 1, "file_name": "1.jpg", "width": 6, "height": 4}], "categories":'
    b' [{"id": 3, "name": "a"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2],'
    b' "segmentation": [[' + b"-1e300,1e300," * 50_000 + b"1,1]]}]}",
    "an outline to and fro": b'{"images": [{"id": 1, "file_name": "1.jpg", "width": 6, "height": 4}], "categories":'
    b' [{"id": 3, "name": "a"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2],'
    b' "segmentation": [[' + b"-999999,999999," * 50_000 + b"1,1]]}]}",
}

#: Files in VOC's format that are refused.
VOC = {
    "laughs by the billion": b'<!DOCTYPE a [<!ENTITY l0 "ha">'
    + b"".join(b'<!ENTITY l%d "&l%d;&l%d;">' % (n, n - 1, n - 1) for n in range(1, 60))
    + b"]><annotation>&l59;</annotation>",
    "one entity many times": b'<!DOCTYPE a [<!ENTITY b "' + b"a" * 100_000 + b'">]><annotation>' + b"&b;" * 100_000,
    "a file from outside": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>',
    "elements in elements": b"<annotation>" + b"<a>" * 1_000_000,
    "a name of megabytes": b"<annotation><object><name>" + b"a" * 5_000_000 + b"</name></object></annotation>",
    "attributes": b"<annotation " + b" ".join(b'a%d="b"' % n for n in range(100_000)) + b"><",
    "megabytes": b"<annotation>" + b" " * (17 << 20) + b"</annotation>",
}

#: Recipes that are refused.
RECIPES = {
    "brackets": b"a: " + b"[" * 3000,
    "braces": b"a: " + b"{a: " * 3000,
    "dashes": b"- " * 3000,
    "an alias in itself": b"a: &a [*a]",
    "doubled aliases": b"a0: &a0 [1]\n"
    + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 40)),
    "a number of 10,000 digits": b"train: {epochs: 0x" + b"f" * 10_000 + b"}",
    "a number in base 60": b"train: {epochs: " + b"1:" * 100_000 + b"1}",
    "a tag that does not fit": b"train: {epochs: !!bool maybe}",
    "a time that is none": b"train: {epochs: !!timestamp maybe}",
    "five million characters": b"a: [" + b"1," * 2_500_000 + b"]",
    "a zero byte": b"model: \0",
    "nothing": b"",
    "no text": bytes(range(256)),
}
