"""Starting from a checkpoint's weights, as far as they fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from switchnorm.errors import InputError
from switchnorm.training.class_rows import ClassRows, TakenRows, take_rows
from switchnorm.training.source_start import NOTHING, Started, counterparts, start_from
from switchnorm.weights import read_checkpoint, read_state
from switchnorm.weights.coco import names_of
from switchnorm.weights.detectron import is_detectron, to_ours
from switchnorm.weights.foreign_names import from_backbone, from_torchvision, is_backbone
from switchnorm.weights.pair import PARTS, check_two_files, joined
from switchnorm.weights.values import check_values

Start = Literal["auto", "equal", "source"]

#: What takes a classifier's weights in networks that have more, and a part beside it: encoders of segmentation
#: networks, bodies of detectors, this library's and torchvision's.
_ENCODERS = (
    ("encoder", "decoder"),
    ("backbone", "classifier"),
    ("body", "rpn"),
    ("body", "head"),
    ("backbone.body", "rpn"),
    ("backbone.body", "head"),
)


@dataclass(frozen=True)
class WarmStart:
    """What a network took from a checkpoint, and what it did not.

    Args:
        file: the checkpoint, or "ENCODER and DECODER" of two.
        matched: entries that were loaded.
        missing: entries of the network that the checkpoint lacks; they stay as they were initialised.
        unexpected: entries of the checkpoint that the network lacks.
        shapes: entries that both have in different shapes, as "key (theirs) for (ours)".
        classifier: entries of the checkpoint's classifier, where a network for segmentation or detection took the rest.
        started: what was set so that layers compute nearly what other normalizers in the checkpoint did.
        classes: how the rows of its classes were taken over, in words; "" where they are those of the network.
    """

    file: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]
    classifier: tuple[str, ...] = ()
    started: Started = NOTHING
    classes: str = ""

    def __str__(self) -> str:
        text = f"warm start: {len(self.matched)} of {self.total} entries from {self.file}"
        kinds = (
            ("missing there", self.missing),
            ("unknown here", self.unexpected),
            ("of another shape", self.shapes),
            ("of its classifier left out", self.classifier),
        )
        logits, fitted = len(self.started.logits) // 2, len(self.started.fitted)
        start = [f"{logits} layers start at the batch statistic, as they were trained"] if logits else []
        start += [f"{len(self.started.importance)} layers keep their importance"] if self.started.importance else []
        start += [f"scale and shift of {fitted} make up for other statistics"] if fitted else []
        left = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in kinds if keys]
        return "; ".join([text, *([self.classes] if self.classes else []), *left, *start])

    @property
    def total(self) -> int:
        """How many entries the network has."""
        return len(self.matched) + len(self.missing) + len(self.shapes) + len(self.started.logits)

    def record(self) -> dict[str, Any]:
        """The report as a run's record keeps it."""
        return {
            "file": self.file,
            "matched": len(self.matched),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "shapes": list(self.shapes),
            "classifier": list(self.classifier),
            "started": list(self.started.logits),
            "fitted": list(self.started.fitted),
            "importance": list(self.started.importance),
            "classes": self.classes,
        }


def warm_start(
    model: nn.Module,
    path: str | Path,
    decoder: str | Path | None = None,
    *,
    start: Start = "auto",
    rows: ClassRows | None = None,
) -> WarmStart:
    """Load what fits of a checkpoint; entries fit by name and shape, the published layouts' shapes included.

    Normalizations that are numbered alike fit whether they are called "bn1" or "sn1". A network for segmentation takes
    a checkpoint of its own kind as it is, and one for classification, or of an encoder alone, as its encoder's. The
    published SSN networks pool in their stem with other padding than encoders do; their weights fit all the same.
    Encoders of timm take weights of the classifier, whose entries are called a little otherwise.

    Detectors likewise take a classifier's weights, or a published backbone's, in their body, and those of a detector
    whatever its classes are: of this library, published, or torchvision's, which this library's take too.

    Args:
        model: the network.
        path: a file, as `switchnorm.weights.read_state` reads it; with `decoder`, that of the encoder.
        decoder: the decoder's file, where a network for segmentation was published as two.
        start: how layers of other normalizers than the checkpoint's Batch Norm, SN or SSN begin, as of
            `switchnorm.switch`: "auto" or "source" so that they compute nearly the same; "equal" with what the
            checkpoint has, and the same importance of all statistics. "auto" is "equal" where the checkpoint shows no
            signs of training.
        rows: the network's classes, by whose names rows of a classifier or a decoder are taken over where the file
            names its own; None takes them as they stand.

    Returns:
        What was loaded and what was not.

    Raises:
        InputError: no readable checkpoint, one of which nothing fits, or with "source" one without another normalizer
            from which a layer could start.
    """
    source = repr(str(path)) if decoder is None else f"{str(path)!r} with decoder {str(decoder)!r}"
    if decoder is not None:
        check_two_files(path, decoder)
    file = read_checkpoint(path)
    theirs = file.state if decoder is None else joined(file.state, read_state(decoder), source)
    ours = model.state_dict()
    classes = names_of(theirs) if file.classes is None else file.classes.names
    theirs = _in_our_names(theirs, ours)
    part = _encoder(ours, theirs)
    named = _named_as(ours, theirs, part)
    taken = TakenRows({}) if rows is None else take_rows(rows, theirs, ours, named, classes)
    theirs = {**theirs, **{named[key]: value for key, value in taken.entries.items()}}
    shared = [key for key in ours if key in named]
    fitting = [key for key in shared if key not in taken.left and _fits(theirs[named[key]], ours[key])]
    # Counters and schedules alone are no start.
    telling = [key for key in fitting if ours[key].is_floating_point() and ours[key].numel() > 1]
    if decoder is not None:
        _check_parts(ours, theirs, telling, dict(zip(PARTS, map(str, (path, decoder)), strict=True)))
    if not telling:
        raise InputError(_nothing(model, source, theirs, {key: named[key] for key in shared}))
    before = counterparts(model, theirs, named)
    if start == "source" and not before:
        raise InputError(
            f"no layer can start at what {source} computed: that takes Batch Norm's running statistics, or SN or SSN, "
            "there, and another normalizer here; set train.start to 'auto'"
        )
    check_values({key: theirs[named[key]] for key in fitting}, ours, f"checkpoint {source}")
    _load(model, {key: theirs[named[key]].reshape(ours[key].shape) for key in fitting}, ours)
    started = start_from(model, before, start)
    unknown = [key for key in theirs if key not in set(named.values())]
    classifier = _classifier(theirs, unknown) if part else []
    return WarmStart(
        str(path) if decoder is None else f"{path} and {decoder}",
        matched=tuple(fitting),
        missing=tuple(key for key in ours if (key not in named or key in taken.left) and key not in started.logits),
        unexpected=tuple(key for key in unknown if key not in classifier),
        shapes=tuple(
            f"{key} {tuple(theirs[named[key]].shape)} for {tuple(ours[key].shape)}"
            for key in shared
            if key not in fitting and key not in taken.left
        ),
        classifier=tuple(classifier),
        started=started,
        classes=taken.said,
    )


def _check_parts(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], telling: Iterable[str], files: Mapping[str, str]
) -> None:
    """Raise `InputError` where an encoder or a decoder takes nothing of its file, with a hint if the two are swapped.

    Args:
        ours: the network's entries.
        theirs: the files' entries, each below the name of the part that it was given as.
        telling: the entries that fit.
        files: by part.
    """
    taken = {key.partition(".")[0] for key in telling}
    if not any(key.startswith(f"{part}.") for part in PARTS for key in ours):
        return  # no network of two parts, which the caller says
    for part, other in zip(PARTS, reversed(PARTS), strict=True):
        if part not in taken:
            there = [f"{other}.{key.removeprefix(f'{part}.')}" for key in theirs if key.startswith(f"{part}.")]
            swapped = any(key in ours and ours[key].numel() > 1 for key in there)
            hint = (
                f"it has entries of the {other}; expected [ENCODER, DECODER]"
                if swapped
                else "is it of another network?"
            )
            raise InputError(f"nothing of {files[part]!r} fits the {part}: {hint}")


def _encoder(ours: Iterable[str], theirs: Iterable[str]) -> str:
    """The prefix of the network's encoder ("encoder.") if the checkpoint's keys lack it; "" if they need none."""
    keys = list(ours)

    def has(part: str) -> bool:
        return any(key.startswith(f"{part}.") for key in keys)

    part = next((name for name, beside in _ENCODERS if has(name) and has(beside)), "")
    return "" if any(key.startswith(f"{part}.") for key in theirs) else part and f"{part}."


def _in_our_names(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's entries, those of published detectors and their backbones, and of torchvision's, as ours are."""
    if is_backbone(theirs):
        return from_backbone(theirs)
    if is_detectron(theirs):
        return to_ours(theirs)
    foreign = any(key.startswith("body.") for key in ours) and any(key.startswith("backbone.body.") for key in theirs)
    return from_torchvision(theirs) if foreign else dict(theirs)


def _named_as(ours: Iterable[str], theirs: Iterable[str], part: str) -> dict[str, str]:
    """The checkpoint's key for each key of the network that it has; `part` is put before the checkpoint's keys."""
    known = {_unlabelled(key): key for key in ours}
    found: dict[str, str] = {}
    for key in theirs:
        for name in (*(part + alias for alias in _aliases(key)), *([f"box.{key}"] if part == "body." else [])):
            mine = known.get(_unlabelled(name))
            if mine is not None:
                found.setdefault(mine, key)
                break
    return found


def _aliases(key: str) -> tuple[str, ...]:
    """What an encoder may call an entry of the classifier."""
    return (
        key,
        f"stem.{key}",  # bodies of detectors have the stem as a part of its own
        key.removeprefix("features."),  # torchvision's MobileNets have them below a name that their backbones lack
        key.replace(".", "_", 1),  # timm's lists of features have the parts of stages for their own parts,
        f"model.{key}",  # or the whole network for a part
    )


def _unlabelled(key: str) -> str:
    """A key without what the network calls its numbered normalizations."""
    return re.sub(r"\b(?:bn|sn)(?=\d+\.)", "norm", key)


def _classifier(theirs: Mapping[str, Tensor], unknown: Iterable[str]) -> list[str]:
    """Those of the unknown keys that belong to modules with linear layers."""
    unknown = list(unknown)
    heads = {key.partition(".")[0] for key in unknown if key.endswith("weight") and theirs[key].dim() == 2}
    return [key for key in unknown if key.partition(".")[0] in heads]


def _load(model: nn.Module, state: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    """Load `state`, and the present values of all other entries: layers take a missing one for an older layout."""
    with torch.no_grad():
        model.load_state_dict({**{key: value.clone() for key, value in before.items()}, **state})


def _fits(theirs: Tensor, ours: Tensor) -> bool:
    """The published layouts have their vectors as (1, C, 1, 1) and (1, C, 1)."""
    return theirs.shape == ours.shape or (ours.dim() == 1 and theirs.squeeze().shape == ours.squeeze().shape)


def _nothing(model: nn.Module, source: str, theirs: Mapping[str, Tensor], shared: Mapping[str, str]) -> str:
    start = f"nothing of {source} fits {type(model).__name__}"
    ours = model.state_dict()
    other = next((key for key in shared if ours[key].numel() > 1), None)
    if other is not None:
        found = tuple(theirs[shared[other]].shape)
        return f"{start}: its {shared[other]} is {found}, expected {tuple(ours[other].shape)}"
    first = next(iter(ours))
    nearest = difflib.get_close_matches(first, theirs, n=1, cutoff=0) or list(theirs)[:1]
    return f"{start}: it has no {first!r}; the nearest name in it is {nearest[0]!r}"


def _some(keys: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")
