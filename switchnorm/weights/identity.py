"""Which published checkpoint a file is, and whether it is what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.models import create_model
from switchnorm.weights.importance import layer_statistics
from switchnorm.weights.layout import switchable_prefixes
from switchnorm.weights.published import PUBLISHED, Checkpoint, published
from switchnorm.weights.recognise import norm_of, recognise, usual_norm


def file_md5(path: Path) -> str:
    """The MD5 sum of a file: what the authors published, no protection against forgery."""
    total = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def identify(path: Path, md5: str, name: str | None = None) -> Checkpoint | None:
    """The published checkpoint that a file is: by `name`, by its own name, or by its sum; None for any other file.

    Raises:
        InputError: an unknown name, or the sum of another file.
    """
    by_sum = next((c for c in PUBLISHED if c.md5 == md5), None)
    by_file = next((c for c in PUBLISHED if c.file == path.name), None)
    found = published(name) if name is not None else by_file or by_sum
    if found is not None and found.md5 not in (None, md5):
        raise InputError(
            f"{str(path)!r} has MD5 {md5}, but {found.name} has {found.md5}; "
            f"{_other(by_sum) or 'it is damaged or another file'}"
        )
    if by_sum is not None and found is not by_sum:
        raise InputError(f"{str(path)!r} has MD5 {md5}; {_other(by_sum)}, not {name or found}")
    return found


def check_identity(path: Path, state: Mapping[str, Tensor], known: Checkpoint) -> None:
    """Raise `InputError` if the keys and shapes of `state` are not those of the published checkpoint `known`."""
    norm = norm_of(state)
    if (norm or "gn+ws") != known.norm:
        raise InputError(f"{str(path)!r} has norm {norm or 'gn'}, but {known.name} is {known.norm}; leave out --name")
    for prefix in switchable_prefixes(state):
        found = layer_statistics(state, prefix, known.statistics)
        if found != known.statistics:
            raise InputError(
                f"{str(path)!r} mixes {', '.join(found)} in {prefix.rstrip('.')}, "
                f"but {known.name} mixes {', '.join(known.statistics or ())}; choose another --name"
            )
    if usual_norm(known.network) and recognise(state, [known.network]) is None:
        raise InputError(
            f"{str(path)!r} has not the keys and shapes of {known.network}, which {known.name} is; "
            "leave out --name, or choose another"
        )


def check_network(path: Path, state: Mapping[str, Tensor], network: str, known: Checkpoint | None) -> None:
    """Raise `InputError` if `network` has not the keys and shapes of `state`, or is not the published one's."""
    if known is not None and known.network != network:
        raise InputError(f"{known.name} is of {known.network}, not of {network}; leave out --network")
    if recognise(state, [network]) is None:
        with torch.device("meta"):
            create_model(network)  # refuses an unknown name, and says the nearest one
        found = recognise(state)
        other = f"those of {found.network}" if found else "those of no network known here"
        raise InputError(f"{str(path)!r} has not the keys and shapes of {network}, but {other}; leave out --network")


def _other(checkpoint: Checkpoint | None) -> str:
    return f"that is {checkpoint.name}" if checkpoint is not None else ""
