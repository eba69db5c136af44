"""What a shared library needs and offers, read from its file: formats of Linux, macOS and Windows, 64 bits each.

A wheel for another machine cannot be tried on this one; at least it is looked at before it is handed out.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

_ELF, _MACH, _PE = b"\x7fELF", b"\xcf\xfa\xed\xfe", b"MZ"
# What each format calls a processor.
_PROCESSORS = {
    (_ELF, 62): "x86_64",
    (_ELF, 183): "aarch64",
    (_MACH, 0x1000007): "x86_64",
    (_MACH, 0x100000C): "aarch64",
    (_PE, 0x8664): "x86_64",
    (_PE, 0xAA64): "aarch64",
}
# Of the ELF format: kinds of sections, an entry of a dynamic section, and a kind of segment with its bit.
_DYNAMIC, _DYNSYM, _VERSIONS = 6, 11, 0x6FFFFFFE
_NEEDED = 1
_STACK, _EXECUTABLE = 0x6474E551, 1
# Of the Mach-O format: load commands, and bits of a symbol's type.
_LOAD_DYLIB, _SYMTAB, _SIGNATURE, _BUILD_VERSION, _EXTERNAL, _TYPE = 0xC, 0x2, 0x1D, 0x32, 0x01, 0x0E
# What the linker names in every Mach-O library.
_LINKERS = {"_mh_dylib_header", "__dso_handle"}


class Binary(NamedTuple):
    """A shared library.

    Attributes:
        processor: "x86_64", "aarch64", or a number for another one.
        needed: the libraries that it is linked with.
        exported: the functions that it offers.
        imported: the functions and data that it takes from others.
        versions: of the interfaces that it takes them from, as in "GLIBC_2.17"; of macOS, as in "macOS_11.0".
        loadable: whether the system takes it: on Linux without a stack that can be executed, on Apple's processors
            signed.
    """

    processor: str
    needed: set[str]
    exported: set[str]
    imported: set[str]
    versions: set[str]
    loadable: bool


def inspect(path: Path) -> Binary:
    """Read a shared library's tables.

    Raises:
        ValueError: a file of another format.
    """
    data = path.read_bytes()
    for magic, read in ((_ELF, _elf), (_MACH, _mach), (_PE, _pe)):
        if data.startswith(magic):
            return read(data)
    raise ValueError(f"{path} is no shared library of Linux, macOS or Windows")


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def _processor(magic: bytes, number: int) -> str:
    return _PROCESSORS.get((magic, number), str(number))


def _elf(data: bytes) -> Binary:
    (machine,) = struct.unpack_from("<H", data, 0x12)
    segments, start = struct.unpack_from("<QQ", data, 0x20)
    segment_size, segment_count, size, count = struct.unpack_from("<4H", data, 0x36)
    kinds = [struct.unpack_from("<II", data, segments + segment_size * i) for i in range(segment_count)]
    # Of each section: its kind, where it lies, its size, the section of its names, and a number.
    sections = [struct.unpack_from("<4xI16xQQII", data, start + size * i) for i in range(count)]
    needed, exported, imported, versions = (set[str]() for _ in range(4))
    for kind, at, length, link, number in sections:
        names = sections[link][1] if link < count else 0
        if kind == _DYNAMIC:
            for tag, value in struct.iter_unpack("<qQ", data[at : at + length]):
                if tag == _NEEDED:
                    needed.add(_text(data, names + value))
        elif kind == _DYNSYM:
            for name, _, _, section, _, _ in struct.iter_unpack("<IBBHQQ", data[at : at + length]):
                if name:
                    (exported if section else imported).add(_text(data, names + name))
        elif kind == _VERSIONS:
            for _ in range(number):
                entries, first, following = struct.unpack_from("<2xH4xII", data, at)
                entry = at + first
                for _ in range(entries):
                    name, after = struct.unpack_from("<8xII", data, entry)
                    versions.add(_text(data, names + name))
                    entry += after
                at += following
    loadable = any(kind == _STACK and not flags & _EXECUTABLE for kind, flags in kinds)
    return Binary(_processor(_ELF, machine), needed, exported, imported, versions, loadable)


def _mach(data: bytes) -> Binary:
    (machine,) = struct.unpack_from("<I", data, 4)
    (commands,) = struct.unpack_from("<I", data, 16)
    needed, exported, imported, versions = (set[str]() for _ in range(4))
    signed, at = False, 32
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == _LOAD_DYLIB:
            needed.add(_text(data, at + struct.unpack_from("<I", data, at + 8)[0]))
        elif command == _SYMTAB:
            symbols, count, names, _ = struct.unpack_from("<4I", data, at + 8)
            for i in range(count):
                name, kind, section = struct.unpack_from("<IBB", data, symbols + 16 * i)
                if kind & _EXTERNAL:
                    defined = exported if kind & _TYPE and section else imported
                    defined.add(_text(data, names + name).removeprefix("_"))
        elif command == _BUILD_VERSION:
            (oldest,) = struct.unpack_from("<I", data, at + 12)
            versions.add(f"macOS_{oldest >> 16}.{oldest >> 8 & 255}")
        signed |= command == _SIGNATURE
        at += size
    processor = _processor(_MACH, machine)
    return Binary(processor, needed, exported - _LINKERS, imported, versions, signed or processor == "x86_64")


def _pe(data: bytes) -> Binary:
    (header,) = struct.unpack_from("<I", data, 0x3C)
    machine, count = struct.unpack_from("<HH", data, header + 4)
    (optional,) = struct.unpack_from("<H", data, header + 20)
    tables = header + 24 + 112  # of the 64-bit format: exports first, then imports
    sections = [struct.unpack_from("<8x4I", data, header + 24 + optional + 40 * i) for i in range(count)]

    def place(address: int) -> int:
        for size, start, kept, at in sections:
            if start <= address < start + max(size, kept):
                return at + address - start
        raise ValueError(f"address {address:#x} lies in no section")

    exports, _, imports, _ = struct.unpack_from("<4I", data, tables)
    needed, exported, imported = (set[str]() for _ in range(3))
    at = place(imports)
    while name := struct.unpack_from("<I", data, at + 12)[0]:
        needed.add(_text(data, place(name)))
        table = place(struct.unpack_from("<I", data, at)[0] or struct.unpack_from("<I", data, at + 16)[0])
        while entry := struct.unpack_from("<Q", data, table)[0]:
            imported.add(str(entry & 0xFFFF) if entry >> 63 else _text(data, place(entry) + 2))
            table += 8
        at += 20
    names, table = struct.unpack_from("<I4xI", data, place(exports) + 24)
    at = place(table)
    for i in range(names):
        exported.add(_text(data, place(struct.unpack_from("<I", data, at + 4 * i)[0])))
    return Binary(_processor(_PE, machine), needed, exported, imported, set(), True)
