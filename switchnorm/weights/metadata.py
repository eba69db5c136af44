"""What a safetensors file that `switchnorm convert` wrote says about itself, so that it needs no other file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from switchnorm.classes import Classes, classes_in
from switchnorm.errors import InputError
from switchnorm.text import from_json

_TEXTS = ("name", "network", "norm", "source", "md5", "decoder_md5")
_NUMBERS = ("top1", "top5", "box_ap", "mask_ap")
_ORIGIN = ("container", "prefix", "decoder", "alike", "shapes", "order", "names")


@dataclass(frozen=True)
class Metadata:
    """The origin of the numbers in a file; empty where nothing is known.

    Attributes:
        name, network, norm, source, md5, top1, top5, box_ap, mask_ap, decoder_md5, alike: as in `Card`; the sums are
            those of the files as their authors saved them.
        statistics: what its switchable layers mix, in the order of the logits.
        container, prefix: as in `CheckpointFile`, of the published file that was converted; None for other files.
        decoder: the same two of the decoder's file, where there were two; None otherwise.
        shapes: of entries whose published shape cannot be told from ours.
        order: the keys as the converted file ordered them, by the network's depth; safetensors does not keep an order.
        names: "detectron" where the converted file had the names of `switchnorm.weights.detectron`; None otherwise.
        classes: as in `CheckpointFile`.
    """

    name: str | None = None
    network: str | None = None
    norm: str | None = None
    source: str | None = None
    md5: str | None = None
    top1: float | None = None
    top5: float | None = None
    box_ap: float | None = None
    mask_ap: float | None = None
    decoder_md5: str | None = None
    alike: tuple[str, ...] = ()
    statistics: tuple[str, ...] | None = None
    container: str | None = None
    prefix: str | None = None
    decoder: tuple[str, str] | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    names: str | None = None
    classes: Classes | None = None

    def write(self, version: str) -> dict[str, str]:
        """The metadata of a safetensors file: text by name.

        Args:
            version: of this library; its entry tells `read` whose metadata it is.
        """
        texts = {name: getattr(self, name) for name in _TEXTS}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        origin = {name: getattr(self, name) for name in _ORIGIN} | (
            {} if self.classes is None else self.classes.entries()
        )
        return {
            "format": "pt",
            "switchnorm": version,
            **{name: value for name, value in texts.items() if value is not None},
            **{name: repr(value) for name, value in numbers.items() if value is not None},
            **({} if self.statistics is None else {"statistics": ",".join(self.statistics)}),
            "origin": json.dumps(origin),
        }

    @classmethod
    def read(cls, entries: Mapping[str, str], state: Mapping[str, Tensor], path: Path) -> Metadata:
        """The inverse of `write`; empty for the metadata of other writers.

        Args:
            entries: a safetensors file's metadata.
            state: the tensors beside it.
            path: the file, for the error.

        Raises:
            InputError: this library's metadata, but damaged.
        """
        if "switchnorm" not in entries:
            return cls()
        try:
            origin = from_json(entries["origin"], f"the metadata of {str(path)!r}")
            found: dict[str, Any] = {name: entries.get(name) for name in _TEXTS}
            found |= {name: float(entries[name]) for name in _NUMBERS if name in entries}
            if "statistics" in entries:
                found["statistics"] = tuple(entries["statistics"].split(","))
            if not all(text is None or text.isprintable() for text in map(entries.get, _TEXTS)):
                raise ValueError("no text")
            shapes = {str(key): tuple(int(n) for n in shape) for key, shape in origin["shapes"].items()}
            if any(math.prod(shape) != state[key].numel() for key, shape in shapes.items()):
                raise ValueError("shapes of other entries")
            # Files that were converted before segmentation was supported have no entry for a decoder.
            decoder = origin.get("decoder") and tuple(origin["decoder"])
            names = origin.get("names")
            texts = (origin["container"], origin["prefix"], *(decoder or (None, None)), names)
            if len(texts) != 5 or not all(text is None or isinstance(text, str) for text in texts):
                raise TypeError("no text")
            found |= {name: tuple(str(key) for key in origin.get(name, ())) for name in ("order", "alike")}
            classes = classes_in(origin, f"checkpoint {str(path)!r}")
            origins = {"container": texts[0], "prefix": texts[1], "decoder": decoder, "names": names}
            return cls(**found, shapes=shapes, classes=classes, **origins)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"checkpoint {str(path)!r} has damaged metadata; convert it again with `switchnorm convert`"
            ) from error

    def in_order(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`state` in the recorded order of keys; as it is, if they are others."""
        if len(self.order) != len(state) or set(self.order) != set(state):
            return state
        return {key: state[key] for key in self.order}
