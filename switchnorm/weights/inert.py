"""Stand-ins for what training scripts save beside the weights, so that such files can be read and nothing of it runs.

An accuracy that numpy computed was saved as numpy's own number, whose types `torch.load` does not allow. Nothing of it
is needed, so its types are replaced by one that keeps nothing and computes nothing.
"""

from __future__ import annotations


class Inert:
    """A value that is not needed: it takes whatever it is made from, and keeps none of it."""

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
    """Bytes as pickles of protocol 2 hold them: text of Latin-1. Other encodings may make much of little."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin1")
