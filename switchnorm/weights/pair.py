"""Networks for segmentation that were published as two files, one of the encoder and one of the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from switchnorm.errors import InputError

#: The parts of a network for segmentation, which its keys begin with.
PARTS = ("encoder", "decoder")


def check_two_files(encoder: str | Path, decoder: str | Path) -> None:
    """Raise `InputError` where an encoder's and a decoder's file are one: half of the network would be the other's."""
    if Path(encoder).exists() and Path(decoder).exists() and Path(encoder).samefile(decoder):
        raise InputError(f"{str(encoder)!r} cannot be encoder and decoder; give two files, or leave out the decoder")


def joined(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The state of a network by those of its parts.

    Args:
        encoder, decoder: tensors by the part's own keys.
        source: what to call the two in an error.

    Raises:
        InputError: the state of a whole network among them.
    """
    states = dict(zip(PARTS, (encoder, decoder), strict=True))
    found = {f"{part}.{key}": value for part, state in states.items() for key, value in state.items()}
    whole = next((key for key in found if key.split(".")[1] in PARTS), None)
    if whole is not None:
        raise InputError(f"{source} holds {whole.partition('.')[2]} as a whole network does; give that file alone")
    return found


def divided(state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inverse of `joined`.

    Args:
        state: tensors by key.
        source: what to call it in an error.

    Raises:
        InputError: an entry of neither part.
    """
    for key in state:
        if not key.startswith(tuple(f"{part}." for part in PARTS)):
            raise InputError(f"{source} holds {key}, which is of no encoder or decoder; leave out --decoder")
    encoder, decoder = (
        {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in PARTS
    )
    return encoder, decoder
