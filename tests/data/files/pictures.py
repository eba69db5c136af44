"""Files of every kind of picture that people have, written with known pixels."""

import struct
import zlib

import numpy as np
import tifffile
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


def write_netpbm(path, numbers, greatest, plain=False):
    """A PGM or PPM of numbers (H, W) or (H, W, 3), and the greatest that its head allows; in text where it is plain."""
    kind = (2 if numbers.ndim == 2 else 3) + (0 if plain else 3)
    head = f"P{kind}\n# made by hand\n{numbers.shape[1]} {numbers.shape[0]}\n{greatest}\n".encode()
    text = b"".join(b"%d # a number\n" % number for number in numbers.ravel().tolist())
    path.write_bytes(head + (text if plain else numbers.astype(">u2" if greatest > 255 else np.uint8).tobytes()))


def write_tiff_of_few_bits(path, numbers, bits, photometric):
    """A TIFF of gray numbers (H, W) in 1, 2 or 4 bits each, which neither Pillow nor tifffile writes."""
    digits = np.unpackbits(numbers.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
    packed = np.packbits(digits.reshape(len(numbers), -1), axis=1)
    tifffile.imwrite(path, packed, photometric=photometric)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[256].overwrite(numbers.shape[1])
        file.pages[0].tags[258].overwrite(bits)


def write_jpeg2000(path, numbers, depth, signed=False):
    """A JPEG 2000 of gray numbers (H, W) uint16 with that depth, where Pillow writes 16; several bands as it has them.

    Numbers are coded less the half of what the depth holds, by which they have to differ for the other depth.
    """
    moved = numbers if numbers.ndim == 3 else (numbers.astype(np.int64) + 32768 - (1 << depth - 1)).astype(np.uint16)
    Image.fromarray(moved).save(path, irreversible=False)
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\x4f\xff\x51") + 42
    for band in range(1 if numbers.ndim == 2 else numbers.shape[2]):
        content[place + 3 * band] = depth - 1 | signed << 7
    path.write_bytes(content)


def write_sgi16(path, numbers):
    """An SGI of gray numbers (H, W) in 16 bits."""
    head = struct.pack(">HBBHHHHII", 474, 0, 2, 2, numbers.shape[1], numbers.shape[0], 1, 0, int(numbers.max()))
    path.write_bytes(head.ljust(512, b"\0") + numbers[::-1].astype(">u2").tobytes())


def numbers(shape, low=0, high=255, dtype=np.uint8, seed=0):
    """Random numbers of a type, which begin with the least and end with the greatest."""
    drawn = np.random.default_rng(seed).random(shape) * (float(high) - float(low)) + float(low)
    drawn.flat[0], drawn.flat[-1] = low, high
    return (drawn if np.issubdtype(dtype, np.floating) else np.rint(drawn)).astype(dtype)
