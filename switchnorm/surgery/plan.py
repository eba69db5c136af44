"""What a switch will do: a report to read, and the instructions to carry it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.layers import Spec, channels_of
from switchnorm.surgery.convert import Replacement, standardize


@dataclass(frozen=True)
class Change:
    """A layer that a switch changes.

    Attributes:
        names: all its names in the model; several where modules are tied.
        before, after: what it is and what it becomes.
        reason: why it becomes that.
        function: of a normalization, whether it computes what it did: "kept", "kept nearly (87 % batch)", "changes:
            layer in place of batch, scale and shift fitted", ...
    """

    names: tuple[str, ...]
    before: str
    after: str
    reason: str
    # What a layer becomes, and why, is the change; this describes it.
    function: str = field(default="", compare=False)


@dataclass(frozen=True)
class Left:
    """A layer that a switch might have changed and does not.

    Attributes:
        names: all its names in the model.
        description: what it is.
        reason: why it stays so.
    """

    names: tuple[str, ...]
    description: str
    reason: str


@dataclass
class SwitchPlan:
    """What `plan_switch` decided. Printing it shows the counts, how they came about, and a table of all layers.

    Attributes:
        model: the model, unchanged until `apply`.
        spec: what the plan switches to.
        changes: the layers that change, in the order of definition. Empty where there is nothing to switch.
        left: normalizations (and, with "+ws", convolutions) that stay as they are.
        wiring: how the connections between layers were found, in words; empty where they were not needed.
    """

    model: nn.Module
    spec: Spec
    changes: list[Change] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    wiring: str = ""
    _norms: dict[nn.Module, Replacement] = field(default_factory=dict, repr=False)
    _convs: list[_ConvNd] = field(default_factory=list, repr=False)

    def apply(self) -> nn.Module:
        """Carry the plan out, once.

        Returns:
            The model itself, changed; or the new layer, if the model is a single normalization.
        """
        like = next((tensor for tensor in self.model.parameters() if tensor.is_floating_point()), None)
        new = {old: replacement.install(like) for old, replacement in self._norms.items()}
        for parent in list(self.model.modules()):
            for name, child in parent._modules.items():
                if child in new:
                    parent._modules[name] = new[child]
        for conv in self._convs:
            standardize(conv)
        return new.get(self.model, self.model)

    def __str__(self) -> str:
        lines = [
            f"switch to {self.spec}: {counted(len(self._norms), 'normalization')} and "
            f"{counted(len(self._convs), 'convolution')} change, {counted(len(self.left), 'layer')} left as before"
        ]
        if not self.changes:
            lines.append("nothing to switch")
        if self.wiring:
            lines.append(f"connections found by {self.wiring}")
        if any(change.function.startswith("changes") for change in self.changes):
            lines.append("calibrate(model, batches, like=before) brings layers whose function changes nearer")
        lines += table(
            ("layer", "before", "after", "function", "reason"),
            [(c.names, c.before, c.after, c.function, c.reason) for c in self.changes],
        )
        lines += table(("layer left", "is", "reason"), [(e.names, e.description, e.reason) for e in self.left])
        return "\n".join(lines)


def describe(layer: nn.Module, cls: type[nn.Module] | None = None, channels: int | None = None) -> str:
    """A layer in a few characters: its class (or `cls`), channels and what else distinguishes it in a network.

    Args:
        layer: a convolution or a normalization.
        cls: the class that it will have.
        channels: of a normalization, for layers that do not tell.
    """
    parts: list[object]
    if isinstance(layer, _ConvNd):
        parts = [layer.in_channels, layer.out_channels, "x".join(map(str, layer.kernel_size))]
    elif hasattr(layer, "num_groups") and hasattr(layer, "num_channels"):
        parts = [layer.num_groups, layer.num_channels]
    else:
        known = channels_of(layer) or channels
        parts = [] if known is None else [known]
        parts += ["+".join(statistics)] if (statistics := getattr(layer, "statistics", ())) else []
    return f"{(cls or type(layer)).__name__}({', '.join(map(str, parts))})"


def counted(number: int, noun: str) -> str:
    """A number and a noun, in the plural where there are several."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(header: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """Lines of a table with aligned columns, after an empty line; nothing where there are no rows."""
    cells = [(" = ".join(name or "(the model)" for name in names), *rest) for names, *rest in rows]
    if not cells:
        return []
    cells.insert(0, tuple(header))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]
