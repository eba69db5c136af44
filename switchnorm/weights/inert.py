"""Stand-ins for what training scripts leave beside the weights: files with it can be read, and it cannot act.

An accuracy that numpy computed was saved as numpy's own number, whose types `torch.load` does not allow. Nothing of it
is needed, so its types are replaced by one that keeps and computes nothing.
"""

from __future__ import annotations


class Inert:
    """A value that was read past: what it was made from is forgotten."""

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_NAMES = (
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{made}" for core in ("core", "_core") for made in ("scalar", "_reconstruct")),
)

#: In the form that `torch.serialization.safe_globals` takes.
INERT = [(Inert, name) for name in _NAMES]


def latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    """How pickles of protocol 2 hold bytes; no other encoding, since some inflate what they are given."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin1")
