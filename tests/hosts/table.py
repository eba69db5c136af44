"""docs/libraries.md: `make hosts-table` writes its table."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from torch.nn.modules.conv import _ConvNd

from switchnorm.surgery import SwitchPlan, plan_switch
from tests.hosts import contract, libraries, normalizers

PAGE = Path(__file__).parents[2] / "docs" / "libraries.md"
_BEGIN, _END = "<!-- made by make hosts-table -->", "<!-- /made -->"


def cell(plan: SwitchPlan | None) -> str:
    """How many normalizations have the wanted normalizer, and of how many, where some are left; None was refused."""
    if plan is None:
        return "refused"
    changed = sum(not isinstance(plan.model.get_submodule(change.names[0]), _ConvNd) for change in plan.changes)
    had = changed + sum(left.reason.startswith("already") for left in plan.left)
    others = sum(left_for_a_reason(plan).values())
    return f"{had} of {had + others}" if others else str(had)


def left_for_a_reason(plan: SwitchPlan) -> Counter[tuple[str, str]]:
    """Normalizations that stay as they were: how many, by class and reason."""
    norms = [left for left in plan.left if not isinstance(plan.model.get_submodule(left.names[0]), _ConvNd)]
    kinds = [(left.description.partition("(")[0], left.reason) for left in norms]
    return Counter(kind for kind in kinds if not kind[1].startswith("already"))


@cache
def shown() -> dict[tuple[str, str, str], str]:
    """The cells of the page, by title of the library, model and normalizer."""
    rows = re.findall(r"^\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    header, *rest = [row.split(" | ") for row in rows]
    return {
        (title, name, normalizer): text
        for title, name, *cells in rest
        for normalizer, text in zip(header[2:], cells, strict=True)
    }


def made() -> str:
    """The table and its notes, as plans have them; test_contract.py holds that every combination works."""
    lines = [
        f"| {' | '.join(('library', 'model', *normalizers.NAMES))} |",
        "|---|---|" + "---:|" * len(normalizers.NAMES),
    ]
    notes: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for title, host in libraries.hosts():
        cells = []
        for normalizer in normalizers.NAMES:
            plan = plan_switch(contract.built(host), normalizers.spec(normalizer))
            cells.append(cell(None if normalizer in host.why else plan))
            left = {f"{cls} stays: {reason}": None for cls, reason in left_for_a_reason(plan)}
            refused = {f"{normalizer} is refused: {host.why[normalizer]}": None} if normalizer in host.why else {}
            for note in left | refused:
                notes[note][f"{title}'s {host.name}"] = None
        lines.append(f"| {' | '.join((title, host.name, *cells))} |")
        print(lines[-1], flush=True)
    lines += ["", *(f"- {note}. In {', '.join(names)}." for note, names in sorted(notes.items())), ""]
    versions = [f"{libraries.title(name)} {version(name)}" for name in libraries.NAMES]
    return "\n".join([*lines, f"Versions: torch {torch.__version__.partition('+')[0]}, {', '.join(versions)}."])


def main() -> None:
    """Write the page."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}\n{made()}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
