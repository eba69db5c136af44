"""How evaluation shows a file or a picture to a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from switchnorm.data.interpolation import INTERPOLATIONS, Interpolation
from switchnorm.data.preparation.rules import RULES, Crop, Part, Prepared, Rule
from switchnorm.data.resizing import LONGEST, Array, Pixelled, extent, to_array
from switchnorm.errors import InputError, unknown

if TYPE_CHECKING:
    from switchnorm.data.files.picture_file import Pixels

#: The most channels and sides that a file may ask for, since anybody may have written it, and the longest sides: of
#: pictures that are seen in parts, or as they are, and of crops, which are squares of that side.
_MOST_CHANNELS, _MOST_SIDES, _LONGEST = 4096, 64, 1 << 15


@dataclass(frozen=True)
class Preparation:
    """How evaluation shows pictures to a network: as 8-bit images of some sizes, and as the numbers that these become.

    Args:
        rule: at which sizes.
        mean: of each channel, in units of `scale` times an 8-bit pixel, which is subtracted; in the network's order.
        std: the deviation of each channel, likewise, which divides.
        scale: by which 8-bit pixels are multiplied first, as of digits, whose white is 16.
        order: of the colours that the network takes, "rgb" or "bgr"; images are always red, green and blue.
        bands: which bands of files, from 0; None for red, green and blue, or grey where there is one channel.
        range: the numbers of files that become 0 and 255, see `Pixels`; None for files of 8 bits.
        interpolation: of resizing.

    Raises:
        InputError: numbers that cannot be, each named.
    """

    rule: Rule
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    order: Literal["rgb", "bgr"] = "rgb"
    bands: tuple[int, ...] | None = None
    range: tuple[float, float] | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        check_colors(self.mean, self.std)
        if self.order not in ("rgb", "bgr"):
            raise unknown("order of colours", str(self.order), ("rgb", "bgr"))
        if self.order == "bgr" and self.channels != 3:
            raise InputError(f"order 'bgr' is of three colours, and mean has {self.channels}; take 'rgb'")
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", str(self.interpolation), INTERPOLATIONS)
        if self.bands is None and self.channels not in (1, 3):
            raise InputError(f"pictures without bands have 1 or 3 channels, and mean has {self.channels}; name bands")
        if self.bands is not None and len(self.bands) != self.channels:
            raise InputError(f"bands {list(self.bands)} are {len(self.bands)}, and mean has {self.channels} channels")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"scale {self.scale!r} of pixels must be above 0; 1 leaves them")

    @property
    def channels(self) -> int:
        """C, of what the network is shown."""
        return len(self.mean)

    @property
    def pixels(self) -> Pixels:
        """What files become before they are resized."""
        from switchnorm.data.files.picture_file import Pixels

        return Pixels(self.bands, self.range)

    def read(self, path: str) -> Pixelled:
        """The picture of a file as `prepare` takes it; errors as of `read_picture`."""
        from switchnorm.data.files.picture_file import read_pixels

        return read_pixels(path, self.pixels)

    def taken(self, picture: Any, title: str = "the picture") -> Pixelled:
        """A picture in memory as `prepare` takes it.

        Args:
            picture: of Pillow, in any mode of 8 bits, taken as its file would be, turned as its EXIF data says; or an
                array (H, W), (H, W, C) or (C, H, W) uint8, which is no file's: no range applies to it. An array of
                three axes has its channels where there are as many as the network takes: last, else first.
            title: what an error calls it.

        Raises:
            DamagedError: a picture of Pillow that was closed, or whose file is cut off.
            InputError: anything else.
        """
        if isinstance(picture, Image.Image):
            if self.bands is None:
                from switchnorm.data.files.picture_file import in_memory

                return in_memory(picture, title, self.pixels)
            from switchnorm.data.files.opening import upright

            picture = np.asarray(upright(picture))
        return self._of_array(np.asarray(picture), title)

    def prepare(self, picture: Pixelled) -> Prepared:
        """A picture as evaluation shows it, the whole of it."""
        images = self.rule.whole(self._colored(picture), self.interpolation)
        return Prepared([image[: self.channels] for image in images], extent(picture))

    def parts(self, picture: Pixelled) -> Iterator[Part]:
        """A picture as prediction shows it: as `prepare`, in parts where it is large and the rule has some."""
        for part in self.rule.parts(self._colored(picture), self.interpolation):
            yield part._replace(images=tuple(image[: self.channels] for image in part.images))

    def normalized(self, pixels: Array) -> Array:
        """Images (..., C, h, w) uint8 as the float32 numbers that the network takes."""
        pixels = pixels[..., ::-1, :, :] if self.order == "bgr" else pixels
        scaled = pixels.astype(np.float32)
        if self.scale != 1:
            scaled *= np.float32(self.scale)
        deviation = np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        scaled *= np.float32(1) / deviation
        scaled += -np.asarray(self.mean, np.float32).reshape(-1, 1, 1) / deviation
        return np.ascontiguousarray(scaled)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "rule"}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        rule = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.rule).items()}
        return {"rule": {"kind": self.rule.kind, **rule}, **listed}

    @classmethod
    def from_dict(cls, values: Any, title: str) -> Preparation:
        """The preparation in the value of a JSON text that anybody may have written.

        Args:
            values: as `to_dict` makes them.
            title: what an error calls the text.

        Raises:
            InputError: entries that are missing, unknown, of another type or out of range.
        """
        try:
            entries = _entries(values, "preparation", [each.name for each in fields(cls)], ("rule", "mean", "std"))
            return cls(
                rule=_rule(entries["rule"], "rule of preparation"),
                mean=_numbers(entries["mean"], "mean"),
                std=_numbers(entries["std"], "std"),
                scale=_number(entries.get("scale", 1.0), "scale"),
                order=entries.get("order", "rgb"),
                bands=None if entries.get("bands") is None else _counts(entries["bands"], "bands"),
                range=_range(entries.get("range")),
                interpolation=entries.get("interpolation", "bilinear"),
            )
        except InputError as error:
            raise InputError(f"{title}: {error}") from error

    def _colored(self, picture: Pixelled) -> Pixelled:
        """The picture with the colours that the network takes; grey is repeated, so that Pillow resizes it alike."""
        if self.bands is not None or self.channels == 3:
            return picture
        if not isinstance(picture, Image.Image):
            return picture[:1]
        return picture.convert("L").convert("RGB")

    def _of_array(self, picture: Array, title: str) -> Pixelled:
        if picture.dtype != np.uint8:
            raise InputError(f"{title} is an array of {picture.dtype}; expected uint8, 0 to 255")
        if picture.ndim == 2:
            picture = picture[..., None]
        wanted = 3 if self.bands is None else self.channels
        if self.bands is None and 1 in (picture.shape[-1], picture.shape[0]) and picture.ndim == 3:
            grey = picture[..., 0] if picture.shape[-1] == 1 else picture[0]
            return Image.fromarray(np.ascontiguousarray(grey)).convert("RGB")
        if picture.ndim != 3 or wanted not in (picture.shape[-1], picture.shape[0]) or 0 in picture.shape:
            raise InputError(
                f"{title} is an array of shape {picture.shape}; expected (H, W, {wanted}) or ({wanted}, H, W)"
            )
        last = picture if picture.shape[-1] == wanted else picture.transpose(1, 2, 0)
        if wanted == 3:
            return Image.fromarray(np.ascontiguousarray(last))
        return to_array(last.transpose(2, 0, 1))


def check_colors(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise `InputError` where these are no mean and deviation of the same channels."""
    if not 0 < len(mean) <= _MOST_CHANNELS or len(std) != len(mean):
        raise InputError(f"mean has {len(mean)} channels and std {len(std)}; expected a number of each for a channel")
    if not all(map(math.isfinite, mean)):
        raise InputError(f"mean {list(mean)} must be finite numbers")
    if not all(math.isfinite(each) and each > 0 for each in std):
        raise InputError(f"std {list(std)} must be numbers above 0")


def _rule(values: Any, title: str) -> Rule:
    kinds = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kinds, str) or kinds not in RULES:
        raise unknown("rule of sizes", str(kinds), RULES)
    names = [each.name for each in fields(RULES[kinds])]
    entries = dict(_entries({name: value for name, value in values.items() if name != "kind"}, title, names, names))
    for name, value in entries.items():
        if name == "sides":
            entries[name] = _counts(value, "sides", least=1, most=_MOST_SIDES)
        elif name == "resize":
            if value not in ("antialiased", "plain"):
                raise unknown("resize", str(value), ("antialiased", "plain"))
        elif value is not None or name != "longest":
            entries[name] = _count(value, name, most=LONGEST if kinds == Crop.kind else _LONGEST)
    return RULES[kinds](**entries)


def _entries(values: Any, title: str, known: Sequence[str], needed: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{title} is {type(values).__name__}; expected entries by name")
    for name in values:
        if name not in known:
            raise unknown(f"entry of {title}", str(name), known)
    for name in needed:
        if name not in values:
            raise InputError(f"{title} lacks {name!r}")
    return values


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r:.80}; expected a number")
    return float(value)


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) > _MOST_CHANNELS:
        raise InputError(f"{name} is {value!r:.80}; expected a list of numbers")
    return tuple(_number(each, name) for each in value)


def _count(value: Any, name: str, least: int = 1, most: int = _LONGEST) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{name} is {value!r:.80}; expected a whole number, {least} to {most}")
    return value


def _counts(value: Any, name: str, least: int = 0, most: int = _MOST_CHANNELS) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise InputError(f"{name} is {value!r:.80}; expected a list of at most {most} whole numbers")
    return tuple(_count(each, name, least) for each in value)


def _range(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = _numbers(value, "range")
    if len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise InputError(f"range is {value!r:.80}; expected two numbers, black and white, as in [0, 4095]")
    return numbers[0], numbers[1]
