"""What a deployed network is, and how it is used: it travels in every file that is exported. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from switchnorm import __version__
from switchnorm.classes import Classes, classes_in
from switchnorm.config.task_spec import tasks
from switchnorm.data.preparation import Preparation
from switchnorm.deploy.network_entries import check_network
from switchnorm.errors import InputError, unknown
from switchnorm.text import from_json

#: The entry of a file's metadata that holds a description, and the number of what is in there.
KEY, FORMAT = "switchnorm", 1
#: The task of a network of which nobody has said one: its outputs are given out as they are.
RAW_TASK = "raw"
#: Which dimensions of pictures may be dynamic.
DIMENSIONS = ("batch", "height", "width")
#: Settings of detection that are of the network itself, by the attribute of a detector.
OF_DETECTORS = {
    "score_threshold": "score_threshold",
    "nms_threshold": "nms_threshold",
    "detections": "detections_per_image",
}
#: Decimals of importance, which tell any choice of a statistic apart.
_DECIMALS = 6
_MOST, _LONGEST = 100_000, 1 << 20


@dataclass(frozen=True)
class Description:
    """A network, what it was trained for, how pictures are shown to it, and what its answers mean.

    Args:
        task: by its name, "classification"; "raw" where nobody has said it, and outputs are given out as they are.
        classes: in the order of the labels; detection counts them from 1.
        colors: "#rrggbb" of each, where the data has colours of its own.
        network: how `create_model` makes it, as `switchnorm.deploy.network_entries` has it; None for a module of
            somebody's own, which only the file itself holds.
        norm: the normalizer, as it was asked for.
        layers: what each layer that mixes statistics chose: {layer: {"mean": {"instance": .2, ...}, "var": {...}}}.
        preparation: how evaluation shows pictures; None where nobody has said it.
        inference: how the task runs the network, its settings by name: "flip", "window" and "overlap" of segmentation;
            "score_threshold", "nms_threshold", "detections" and "shown" of detection.
        numbers: of segmentation, the numbers of the classes in written masks, and then that of what does not count;
            empty for those of the labels, and 255.
        results: what evaluation measured, by metric: fractions in [0, 1].
        claim: what others report for this very training, as a recipe says it.
        raw: whether the file takes normalized numbers, float32, and not 8-bit pixels.
        dynamic: which of batch, height and width a file leaves open.
        size: height and width of what the file takes, or was made for; None for any.
        half, int8: whether the file computes in 16-bit floating-point, or 8-bit whole numbers.
        folded: whether normalizations were folded for inference.
        version: of this library.
        source: what it was made of, in words: the name of a run, say.
    """

    task: str = RAW_TASK
    classes: tuple[str, ...] = ()
    colors: tuple[str, ...] | None = None
    network: Mapping[str, Any] | None = None
    norm: str | None = None
    layers: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    preparation: Preparation | None = None
    inference: Mapping[str, Any] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    results: Mapping[str, float] = field(default_factory=dict)
    claim: Mapping[str, Any] = field(default_factory=dict)
    raw: bool = False
    dynamic: tuple[str, ...] = ("batch",)
    size: tuple[int, int] | None = None
    half: bool = False
    int8: bool = False
    folded: bool = False
    version: str = __version__
    source: str = ""

    def __post_init__(self) -> None:
        for name in self.dynamic:
            if name not in DIMENSIONS:
                raise unknown("dynamic dimension", name, DIMENSIONS)

    @property
    def predicts(self) -> bool:
        """Whether pictures can be asked about: it is known how they are shown, and what makes answers of outputs."""
        task = tasks().get(self.task)
        return self.preparation is not None and task is not None and task.answering is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; "format" says which version of this."""
        values = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        values["preparation"] = None if self.preparation is None else self.preparation.to_dict()
        return {"format": FORMAT, **values}

    def to_json(self) -> str:
        """As a JSON text, the same for equal descriptions."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str, title: str) -> Description:
        """The description in a JSON text that anybody may have written, see `from_dict`."""
        return cls.from_dict(from_json(text, title), title)

    @classmethod
    def from_dict(cls, values: Any, title: str) -> Description:
        """The description in the value of a JSON text that anybody may have written.

        Args:
            values: as `to_dict` makes them; "format" is needed, and whatever else is missing has its default.
            title: what an error calls the file.

        Raises:
            InputError: no description, one of a newer version of this library, or entries that are unknown or of
                another type, each named.
        """
        if not isinstance(values, Mapping) or "format" not in values:
            raise InputError(f"{title} describes no network: expected entries by name, among them 'format'")
        number = values["format"]
        if type(number) is not int or number < 1:
            raise InputError(f"{title}: format is {number!r:.80}; expected {FORMAT}")
        if number > FORMAT:
            raise InputError(
                f"{title} has a description of format {number}, and switchnorm {__version__} knows {FORMAT}; install "
                "a newer switchnorm"
            )
        entries = {name: value for name, value in values.items() if name != "format"}
        for name in entries:
            if name not in _CHECKS:
                raise unknown(f"entry of {title}", str(name), _CHECKS)
        found = {name: _CHECKS[name](value, f"{title}: {name}") for name, value in entries.items()}
        named = classes_in({"classes": list(found["classes"])} if found.get("classes") else {}, title)
        if found.get("colors") is not None:
            named = classes_in({"classes": list(found["classes"]), "class_colors": list(found["colors"])}, title)
        names = Classes(()) if named is None else named
        numbers = found.get("numbers")
        if numbers and len(numbers) != len(names.names) + 1:
            raise InputError(f"{title}: numbers are {len(numbers)}; expected one for each class, and one for the rest")
        return cls(**found)


def rounded(layers: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """What layers chose, as a description keeps it."""
    return {
        layer: {
            of: {name: round(float(share), _DECIMALS) for name, share in shares.items()}
            for of, shares in chosen.items()
        }
        for layer, chosen in layers.items()
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _fail(value: Any, title: str, expected: str) -> InputError:
    return InputError(f"{title} is {value!r:.80}; expected {expected}")


def _text(value: Any, title: str) -> str:
    if not isinstance(value, str) or len(value) > _MOST:
        raise _fail(value, title, "text")
    return value


def _text_or_none(value: Any, title: str) -> str | None:
    return None if value is None else _text(value, title)


def _texts(value: Any, title: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _LONGEST or not all(isinstance(each, str) for each in value):
        raise _fail(value, title, "a list of names")
    return tuple(value)


def _texts_or_none(value: Any, title: str) -> tuple[str, ...] | None:
    return None if value is None else _texts(value, title)


def _flag(value: Any, title: str) -> bool:
    if not isinstance(value, bool):
        raise _fail(value, title, "true or false")
    return value


def _entries(value: Any, title: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > _MOST:
        raise _fail(value, title, "entries by name")
    return value


def _fraction(value: Any, title: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _fail(value, title, "a number")
    return float(value)


def _fractions(value: Any, title: str) -> dict[str, float]:
    return {name: _fraction(each, f"{title}, {name}") for name, each in _entries(value, title).items()}


def _layers(value: Any, title: str) -> dict[str, dict[str, dict[str, float]]]:
    return {
        layer: {of: _fractions(shares, f"{title}, {layer}") for of, shares in _entries(chosen, title).items()}
        for layer, chosen in _entries(value, title).items()
    }


def _network(value: Any, title: str) -> dict[str, Any] | None:
    return None if value is None else check_network(value, title.rpartition(":")[0] or title)


def _size(value: Any, title: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int and 0 < n <= _LONGEST for n in value):
        raise _fail(value, title, "height and width in pixels")
    return value[0], value[1]


def _numbers(value: Any, title: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(each) is int and 0 <= each <= 65535 for each in value):
        raise _fail(value, title, "a list of whole numbers, 0 to 65535")
    return tuple(value)


def _preparation(value: Any, title: str) -> Preparation | None:
    return None if value is None else Preparation.from_dict(value, title.rpartition(":")[0] or title)


#: What reads each entry of a description.
_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("task", "version", "source"), _text),
    **dict.fromkeys(("raw", "half", "int8", "folded"), _flag),
    **dict.fromkeys(("classes", "dynamic"), _texts),
    **dict.fromkeys(("inference", "claim"), _entries),
    "colors": _texts_or_none,
    "network": _network,
    "norm": _text_or_none,
    "layers": _layers,
    "preparation": _preparation,
    "numbers": _numbers,
    "results": _fractions,
    "size": _size,
}
