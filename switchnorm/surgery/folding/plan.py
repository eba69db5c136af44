"""What folding will do: a report to read, and the instructions to carry it out on a copy."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from switchnorm.errors import InputError
from switchnorm.surgery.folding.weights import Folded, Layer
from switchnorm.surgery.fused import Fused, original
from switchnorm.surgery.kinds import is_norm, named_layers
from switchnorm.surgery.plan import Change, Left, counted, table
from switchnorm.surgery.tracing import words

#: What normalizations may become, of which nothing is left; and standardized convolutions.
BEFORE, AFTER, PLAIN = "part of the layer before", "part of the layer after", "plain convolution"


class Cost(NamedTuple):
    """What normalizations cost in inference, as their time goes: by what they read and write of maps.

    Attributes:
        passes: over maps, before and after folding, each for reading or writing one.
        values: read and written of one picture, before and after; None where the sizes of maps are not known.
    """

    passes: tuple[int, int] = (0, 0)
    values: tuple[int, int] | None = (0, 0)

    def plus(self, before: int, after: int, values: int | None) -> Cost:
        """This and another normalization's passes, over so many values."""
        old = self.values
        new = None if values is None or old is None else (old[0] + before * values, old[1] + after * values)
        return Cost((self.passes[0] + before, self.passes[1] + after), new)

    @property
    def saved(self) -> float:
        """The share that folding saves."""
        before, after = self.passes if self.values is None else self.values
        return 0.0 if before == 0 else 1 - after / before


@dataclass
class FoldPlan:
    """What `plan_fold` decided. Printing it shows the counts, and tables of all normalizations.

    Attributes:
        model: the model, which stays as it is.
        size: (height, width) of all pictures that the copy will see; None for any.
        changes: the layers that become something else, in the order of definition.
        left: normalizations, and convolutions with weight standardization, that stay as they are.
        remarks: what else there is to say, each in a line.
        cost: of the normalizations, before and after.
    """

    model: nn.Module
    size: tuple[int, int] | None = None
    changes: list[Change] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    _kinds: Counter[str] = field(default_factory=Counter, repr=False)
    _places: dict[nn.Module, nn.Module] = field(default_factory=dict, repr=False)
    _weights: dict[nn.Module, Folded] = field(default_factory=dict, repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many layers became what, the most frequent first; "as it was" for those that are left."""
        left = {"as it was": len(self.left)} if self.left else {}
        return dict(self._kinds.most_common()) | left

    @property
    def saving(self) -> str:
        """What folding saves, in a line: the share of normalizations, and the estimated cost."""
        gone = self._kinds[BEFORE] + self._kinds[AFTER]
        norms = sum(map(is_norm, named_layers(self.model)))
        cost = self.cost
        before, after = cost.passes if cost.values is None else cost.values
        if cost.values is None or self.size is None:
            what = f"{before} passes over maps become {after}"
        else:
            picture = " x ".join(map(str, self.size))
            what = f"{before / 1e6:.3g} M values read and written of a picture of {picture} become {after / 1e6:.3g} M"
        share = f"{gone} of {counted(norms, 'normalization')} cost nothing"
        return f"{share}{f' ({gone / norms:.0%})' if norms else ''}; {what} (-{cost.saved:.0%})"

    @torch.no_grad()
    def apply(self) -> nn.Module:
        """Carry the plan out.

        Returns:
            A copy of the model in evaluation mode. The model stays as it is.

        Raises:
            InputError: a model that cannot be copied, or copies itself in a way that loses parts.
        """
        memo: dict[int, Any] = {}
        # Found by whoever refers to a normalization, by whichever name, also in lists of one's own.
        for norm, module in self._places.items():
            memo[id(norm)] = copy.deepcopy(module, memo)
        for module in self.model.modules():
            # What a hook has computed, as weight_norm's, is none that could be copied with its graph.
            for value in vars(module).values():
                if isinstance(value, torch.Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
        try:
            folded: nn.Module = copy.deepcopy(self.model, memo)
        except Exception as error:  # What others do when copied may raise anything.
            raise InputError(f"{type(self.model).__name__} cannot be copied: {words(error)}") from error
        self._check(folded, memo)
        for layer, weights in self._weights.items():
            weights.install(memo[id(layer)])
        folded.eval()
        for module in folded.modules():
            module.training = False
            if isinstance(module, Fused):
                # What it would call is no longer there.
                vars(module).pop("_own_forward", None)
                cls: Any = original(module)
                module.__class__ = cls
        return folded

    def _check(self, folded: nn.Module, memo: dict[int, Any]) -> None:
        """Raise `InputError` where the copy does not hold what it is to hold, at the same paths."""
        changed = {*self._places, *self._weights}
        for name, module in self.model.named_modules(remove_duplicate=False):
            if module in changed:
                try:
                    there: nn.Module | None = folded.get_submodule(name)
                except AttributeError:
                    # Inside of what was a layer.
                    continue
                if id(module) not in memo or there is not memo[id(module)]:
                    raise InputError(
                        f"{type(self.model).__name__} copies itself in a way of its own, which loses what becomes of "
                        f"{name}; fold the network inside of it"
                    )

    def folded(self, layer: Layer) -> Folded:
        """The weight of a layer, to fold into it."""
        return self._weights.setdefault(layer, Folded(layer))

    def __str__(self) -> str:
        lines = [f"fold: {counted(len(self.changes), 'layer')} folded, {len(self.left)} left as before"]
        lines.append(self.saving)
        lines += [f"{number} x {kind}" for kind, number in self.counts.items()]
        lines += self.remarks
        lines += table(
            ("layer", "before", "after", "reason"), [(c.names, c.before, c.after, c.reason) for c in self.changes]
        )
        lines += table(("layer left", "is", "reason"), [(e.names, e.description, e.reason) for e in self.left])
        return "\n".join(lines)
