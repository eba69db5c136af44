"""What a dataset is known by: counts, and digests of names; no picture is opened, and no folder is named."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from switchnorm.text import canonical

#: So many samples of a split at most have a mark of their own, by which one that is new can be named.
MARKED = 2_000
_MARK = 3  # bytes
#: How many letters of base64 a mark has.
MARK_LETTERS = 4


def split_fingerprint(
    names: Iterable[str], labels: Sequence[int] | None = None, classes: int = 0, *, marked: bool = True
) -> dict[str, Any]:
    """What one split is known by.

    Args:
        names: of the samples, in their order: paths below the split's folder, or whatever tells them apart.
        labels: the label of each; None where samples have none of their own.
        classes: how many there are.
        marked: whether each sample gets a mark.

    Returns:
        count: of the samples. digest: of their names and labels in order. classes: of each class the number of its
        samples and a digest of their names, "16:5f0c1a22 ...", where there are labels. marks: 4 letters for each sample
        in order, of its name and label, up to `MARKED` samples.
    """
    whole = hashlib.sha256()
    parts = [hashlib.sha256() for _ in range(classes)]
    counts = [0] * classes
    marks: list[bytes] = []
    samples = 0
    for name in names:
        label = None if labels is None else labels[samples]
        samples += 1
        encoded = _entry(name, label)
        whole.update(encoded)
        if label is not None:
            parts[label].update(encoded)
            counts[label] += 1
        if marked and samples <= MARKED:
            marks.append(_mark(encoded))
    found: dict[str, Any] = {"count": samples, "digest": whole.hexdigest()[:32]}
    if labels is not None:
        found["classes"] = " ".join(f"{n}:{part.hexdigest()[:8]}" for n, part in zip(counts, parts, strict=True))
    if marked and samples <= MARKED:
        found["marks"] = b"".join(marks).decode()
    return found


def _entry(name: str, label: int | None) -> bytes:
    """A sample as digests take it."""
    return f"{canonical(name)}\0{'' if label is None else label}\n".encode()


def _mark(encoded: bytes) -> bytes:
    """The mark of a sample, from what digests take of it: 4 letters."""
    return base64.b64encode(hashlib.sha256(encoded).digest()[:_MARK])
