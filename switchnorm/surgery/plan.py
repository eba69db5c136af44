"""What a switch will do: a report to read, and the instructions to carry it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.errors import InputError
from switchnorm.layers import Spec, channels_of
from switchnorm.surgery.carry import AFFINE, LOGITS, carried
from switchnorm.surgery.convert import Replacement
from switchnorm.surgery.freeze import hold, is_frozen
from switchnorm.surgery.optimizers import NewParameter, watch
from switchnorm.surgery.references import renew
from switchnorm.surgery.standardize import conv_refusal, standardize
from switchnorm.surgery.start import UNKNOWN


class SwitchWarning(UserWarning):
    """A switch that has nothing to switch, or cannot know what there is to keep."""


@dataclass(frozen=True)
class Change:
    """A layer that a switch changes.

    Attributes:
        names: all its names in the model; several where modules are tied.
        before, after: what it is and what it becomes.
        reason: why it becomes that.
        function: of a normalization, whether it computes what it did: "kept", "kept nearly (88 % batch)", "changes:
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
        wiring: how the connections between layers were found, in words.
        new_parameters: the names, in the switched model, of the parameters that the model did not have before. An
            optimizer that was made before the switch does not know them and never moves them.
    """

    model: nn.Module
    spec: Spec
    changes: list[Change] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    wiring: str = ""
    new_parameters: tuple[str, ...] = ()
    _norms: dict[nn.Module, Replacement] = field(default_factory=dict, repr=False)
    _sources: Mapping[nn.Module, nn.Module | None] = field(default_factory=dict, repr=False)
    _convs: list[_ConvNd] = field(default_factory=list, repr=False)
    _thawed: dict[nn.Module, bool] = field(default_factory=dict, repr=False)
    _applied: bool = field(default=False, repr=False)

    def settled(self) -> SwitchPlan:
        """The plan, once all layers are taken: only the model as it is now tells what is new."""
        names = {old: name for name, old in self.model.named_modules()}
        self.new_parameters = tuple(
            f"{names[old]}.{inner}" if names[old] else inner
            for old, replacement in self._norms.items()
            for inner in fresh_parameters(old, replacement.new)
        )
        return self

    def changed(self) -> list[nn.Module]:
        """The layers that change."""
        return [*self._norms, *self._convs]

    def nothing_switched(self) -> str | None:
        """That the plan changes nothing, and why, in a line; None where it changes something or had done so before."""
        if self.changes or any(left.reason.startswith("already ") for left in self.left):
            return None
        counts = Counter(left.reason for left in self.left)
        kinds = {left.reason: left.description.partition("(")[0] for left in reversed(self.left)}
        seen = "; ".join(f"{count} x {kinds[reason]}: {reason}" for reason, count in counts.most_common(4))
        return f"nothing to switch to {self.spec}: {seen or 'the model has no normalization'}"

    def unsure(self) -> str | None:
        """That nothing tells whether the model was trained, where that decides; None where it does not."""
        number = sum(change.function.startswith(UNKNOWN) for change in self.changes)
        if not number:
            return None
        were = "1 layer was" if number == 1 else f"{number} layers were"
        return (
            f"nothing tells whether {were} trained, so that new ones begin with equal importance; start='source' keeps "
            "what was computed, and start='equal' says that nothing is to be kept"
        )

    def apply(self) -> nn.Module:
        """Carry the plan out, once.

        Returns:
            The model itself, changed; or the new layer, if the model is a single normalization.

        Raises:
            InputError: a second time, or if layers of the plan have left the model or changed since.
        """
        # Scales that were fitted would be fitted again.
        modules = set(self.model.modules())
        if self._applied or not modules.issuperset(self.changed()) or any(map(conv_refusal, self._convs)):
            raise InputError("the plan was carried out, or the model has changed since it was made; make a new plan")
        self._applied = True
        like = next((tensor for tensor in self.model.parameters() if tensor.is_floating_point()), None)
        with torch.device("cpu"):  # Whatever the default is, for a new layer gets the old one's.
            new = {old: replacement.install(like) for old, replacement in self._norms.items()}
        for parent in list(self.model.modules()):
            for name, child in parent._modules.items():
                if child in new:
                    parent._modules[name] = new[child]
        renew(self.model, new)
        for conv in self._convs:
            standardize(conv)
        for old, trains in self._thawed.items():
            for name in AFFINE:
                if (parameter := new[old]._parameters.get(name)) is not None:
                    parameter.requires_grad_(trains)
        for old, layer in new.items():
            if is_frozen(old):
                hold(layer)
        switched = new.get(self.model, self.model)
        self._watch(switched, new)
        return switched

    def _watch(self, switched: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
        """Look out for optimizers that lack the new parameters."""
        old = {layer: before for before, layer in new.items()}
        fresh = []
        for name in self.new_parameters:
            path, _, last = name.rpartition(".")
            while (layer := switched.get_submodule(path)) not in old:  # a parameter of a part of the layer
                path = path.rpartition(".")[0]
            own, source = dict(old[layer].named_parameters()), self._sources.get(old[layer])
            if last in LOGITS and "weight" in own and own["weight"].requires_grad:
                continue
            beside = [*own.values()] or ([] if source is None else [*source.parameters()])
            fresh.append(NewParameter(name, switched.get_parameter(name), beside))
        watch(fresh)

    def __str__(self) -> str:
        lines = [
            f"switch to {self.spec}: {counted(len(self._norms), 'normalization')} and "
            f"{counted(len(self._convs), 'convolution')} change, {counted(len(self.left), 'layer')} left as before"
        ]
        if not self.changes:
            lines.append("nothing to switch")
        if self.wiring:
            lines.append(f"connections found by {self.wiring}")
        if new := self.new_parameters:
            lines.append(
                f"{counted(len(new), 'new parameter')}, {new[0]} {'among them' if len(new) > 1 else ''}".rstrip()
                + ": make the optimizer after the switch, for one made before never moves them"
            )
        if any(change.function.startswith("changes") for change in self.changes):
            lines.append("calibrate(model, batches, like=before) brings layers whose function changes nearer")
        lines += table(
            ("layer", "before", "after", "function", "reason"),
            [(c.names, c.before, c.after, c.function, c.reason) for c in self.changes],
        )
        lines += table(("layer left", "is", "reason"), [(e.names, e.description, e.reason) for e in self.left])
        return "\n".join(lines)


def fresh_parameters(old: nn.Module, new: nn.Module) -> Iterator[str]:
    """The names of the parameters of `new` that are none of `old`, once it has what is carried over."""
    kept = carried(old, new)
    yield from (name for name, _ in new.named_parameters() if not isinstance(kept.get(name), nn.Parameter))


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
