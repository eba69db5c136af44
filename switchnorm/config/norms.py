"""Names of normalizers as far as they are known without torch, so that a wrong one is answered at once."""

from __future__ import annotations

import re
import sys

from switchnorm.errors import unknown

#: The names that `switchnorm.layers` registers, in the order of lists.
BUILT_IN = ("bn", "gn", "in", "ln", "sn", "ssn", "ibn", "bcn")


def check_norm(norm: str | None) -> None:
    """Raise `InputError` for a norm whose name is none; what follows a name is looked at when layers are made.

    Where layers have been imported, as by plugins, there may be others, and whoever makes layers knows them.
    """
    if norm is None or "switchnorm.layers" in sys.modules or re.split("[:+]", norm)[0] in BUILT_IN:
        return
    raise unknown("norm", norm, BUILT_IN)
