"""How reports show a normalizer: as its registration says; run.json keeps it, so that a report needs no code of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: For normalizers that no registration gives a colour.
_OTHER_COLOUR = "#7b8494"
_LAST = 1000


@dataclass(frozen=True)
class Appearance:
    """A normalizer in figures and tables.

    Args:
        name: as configurations spell it, "gn+ws".
        color: of its lines, "#rrggbb".
        order: its place among normalizers.
        baseline: whether tables by geometry show how far others are from it.
        reference: whether it is the one that results are held against, the first of the baselines.
    """

    name: str
    color: str = _OTHER_COLOUR
    order: int = _LAST
    baseline: bool = False
    reference: bool = False

    @property
    def rank(self) -> tuple[bool, int]:
        """Sorts as the papers' rows: those with weight standardization come last."""
        return "+" in self.name, self.order

    def record(self) -> dict[str, Any]:
        """As run.json keeps it."""
        return asdict(self)


def recorded(found: Any) -> Appearance | None:
    """The appearance in a run's record; None where it is missing or malformed."""
    if not isinstance(found, Mapping):
        return None
    name, color, order = (found.get(key) for key in ("name", "color", "order"))
    if not (isinstance(name, str) and isinstance(color, str) and re.fullmatch(r"#[0-9a-f]{6}", color)):
        return None
    baseline, reference = (found.get(key) is True for key in ("baseline", "reference"))
    return Appearance(name, color, order if isinstance(order, int) else _LAST, baseline, reference)


def registered(norm: str) -> Appearance:
    """The appearance that a normalizer was registered with; grey and in the last place if it is not registered."""
    # This imports torch, which only runs whose record has no appearance need.
    from switchnorm.layers import all_norms, color_of

    name = re.split("[+: ]", norm)[0]  # in "sn (body bn)" parts of the network have others
    norms = list(all_norms())
    first = next((known.name for known in norms if known.baseline), None)
    for order, known in enumerate(norms):
        if known.name == name:
            baseline = known.baseline and norm == name
            return Appearance(norm, color_of(name) or _OTHER_COLOUR, order, baseline, baseline and name == first)
    return Appearance(norm)
