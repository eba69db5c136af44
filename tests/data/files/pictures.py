"""Files of every kind of picture that people have, written with known pixels."""

import struct
import zlib

import numpy as np
from PIL import Image

#: Every way in which a picture may lie in its file, as EXIF numbers them.
ORIENTATIONS = range(1, 9)
#: How the upright pixels become the stored ones: the inverse of what EXIF says a viewer has to do.
_STORED = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2),
    8: lambda pixels: np.rot90(pixels, -1),
}


def stored(pixels, orientation):
    """Upright pixels (H, W, ...) as a camera that was held so stores them."""
    return np.ascontiguousarray(_STORED[orientation](pixels))


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def write_turned(path, pixels, orientation, **options):
    """A file of upright pixels that lie so in it, and that says so."""
    Image.fromarray(stored(pixels, orientation)).save(path, exif=exif(orientation), **options)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png16(path, numbers):
    """A PNG of 16 bits in 1 to 4 bands, which Pillow does not write; numbers (H, W, B) uint16."""
    height, width, bands = numbers.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def numbers(shape, low=0, high=255, dtype=np.uint8, seed=0):
    """Random numbers of a type, which begin with the least and end with the greatest."""
    drawn = np.random.default_rng(seed).random(shape) * (float(high) - float(low)) + float(low)
    drawn.flat[0], drawn.flat[-1] = low, high
    return (drawn if np.issubdtype(dtype, np.floating) else np.rint(drawn)).astype(dtype)
