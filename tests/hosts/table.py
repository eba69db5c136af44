"""docs/libraries.md: `make hosts-table`, or `python -m tests.hosts.table`, writes it after checking every host."""

from __future__ import annotations

import importlib
import re
import warnings
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

import torch
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.surgery import SwitchPlan
from tests.hosts import contract, libraries, normalizers
from tests.hosts.host import Host

PAGE = Path(__file__).parents[2] / "docs" / "libraries.md"
_BEGIN, _END = "<!-- made by make hosts-table -->", "<!-- /made -->"


def cell(plan: SwitchPlan) -> str:
    """How many normalizations there are and, where some are left for a reason, how many have the wanted normalizer."""
    changed = sum(not isinstance(plan.model.get_submodule(change.names[0]), _ConvNd) for change in plan.changes)
    already = sum(left.reason.startswith("already") for left in plan.left)
    total = changed + already + sum(left_for_a_reason(plan).values())
    return f"{changed + already}" if total == changed + already else f"{changed + already} of {total}"


def left_for_a_reason(plan: SwitchPlan) -> Counter[tuple[str, str]]:
    """Normalizations that stay as they were: how many, by class and reason."""
    norms = [left for left in plan.left if not isinstance(plan.model.get_submodule(left.names[0]), _ConvNd)]
    kinds = [(left.description.partition("(")[0], re.sub(r"'.*?'|\d+", "…", left.reason)) for left in norms]
    return Counter(kind for kind in kinds if not kind[1].startswith("already"))


def row(title: str, host: Host, cells: list[str]) -> str:
    return f"| {title} | {host.name} | {' | '.join(cells)} |"


def verdict(host: Host, normalizer: str) -> tuple[str, Counter[tuple[str, str]]]:
    """A cell, after checking, and what is left for a reason."""
    refused = host.why.get(normalizer)
    try:
        contract.check(host, normalizer)
    except InputError as error:
        return ("refused" if refused and refused in str(error) else f"**failed**: {error}"), Counter()
    except Exception as error:
        return f"**failed**: {type(error).__name__}: {str(error).splitlines()[0]}", Counter()
    plan = contract.Trial(host, normalizer).plan
    return cell(plan), left_for_a_reason(plan)


def made() -> str:
    """The made part of the page."""
    lines = ["| library | model |" + "".join(f" {name} |" for name in normalizers.NAMES)]
    lines.append("|---|---|" + "---:|" * len(normalizers.NAMES))
    left: defaultdict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
    refusals = []
    for library in libraries.NAMES:
        title, hosts = libraries.title(library), importlib.import_module(f"{libraries.__name__}.{library}").HOSTS
        for host in hosts:
            cells = []
            for normalizer in normalizers.NAMES:
                text, reasons = verdict(host, normalizer)
                cells.append(text)
                for kind in reasons:
                    left[kind].setdefault(f"{title}'s {host.name}", []).append(normalizer)
            lines.append(row(title, host, cells))
            refusals += [f"- {title}'s {host.name} under {name}: refused, {why}." for name, why in host.why.items()]
            print(lines[-1], flush=True)
    lines += ["", "Left as they were:", ""]
    lines += [f"- {cls} in {', '.join(where)}: {reason}." for (cls, reason), where in sorted(left.items())]
    lines += refusals
    lines += ["", f"With {', '.join(f'{libraries.title(name)} {version(name)}' for name in libraries.NAMES)}, torch {torch.__version__}."]
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}\n{made()}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
