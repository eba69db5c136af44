"""Names of normalizers as far as they are known without torch, so that a wrong one is answered at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from switchnorm.errors import unknown

#: The names that `switchnorm.layers` registers, in the order of lists.
BUILT_IN = ("bn", "gn", "in", "ln", "sn", "ssn", "ibn", "bcn")


#: A part of a network without a normalization.
NONE = "none"


def check_norm(norm: str | None, norms: Mapping[str, str] | None = None) -> None:
    """Raise `InputError` for a norm whose name is none; what follows a name is looked at when layers are made.

    Where layers have been imported, as by plugins, there may be others, and whoever makes layers knows them.

    Args:
        norm: of a network; None for what it is made with.
        norms: of its parts.
    """
    for each in (norm, *(name for name in (norms or {}).values() if name != NONE)):
        if each is None or "switchnorm.layers" in sys.modules or re.split("[:+]", each)[0] in BUILT_IN:
            continue
        raise unknown("norm", each, BUILT_IN)


def spelled(norm: str, norms: Mapping[str, str]) -> str:
    """A network's normalizers in one name: "sn", or "sn (body bn, box gn)" where parts have others."""
    others = ", ".join(f"{part} {each}" for part, each in norms.items() if each != norm)
    return f"{norm} ({others})" if others else norm
