"""Who is called, with what, and whether all of it was seen: what folding must know before it changes a layer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from switchnorm.surgery.folding.reach import attributes_read, may_reach
from switchnorm.surgery.kinds import is_norm
from switchnorm.surgery.operations import WITHOUT_VALUES, operation
from switchnorm.surgery.tracing import Part, Traced, tensors_read, trace_parts


class Call(NamedTuple):
    """A call of a layer that some graph shows.

    Attributes:
        node: of the graph.
        part: where it stands.
        x: what the layer is given; None where that is no single tensor of the graph, or given twice.
        alone: whether this is all that it is given.
    """

    node: fx.Node
    part: Part
    x: fx.Node | None
    alone: bool


class Calls:
    """All calls of normalizations, convolutions and linear layers that tracing finds, in evaluation mode.

    Args:
        model: any model; as before afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        leaves = {module for module in model.modules() if is_layer(module)}
        apart = {module for module in model.modules() if hooks_of(module) and module not in leaves}
        self._traced: Traced = trace_parts(model, leaves.__contains__, is_apart=apart.__contains__, evaluation=True)
        self._of: defaultdict[nn.Module, list[Call]] = defaultdict(list)
        self._names: defaultdict[nn.Module, list[str]] = defaultdict(list)
        for name, module in model.named_modules(remove_duplicate=False):
            self._names[module].append(name)
        self._read, self._touched = set[str](), set[str]()
        for layer in self._traced.read:
            self._read.update(self._names[layer])
            self._touched.update(self._names[layer])
        for part in self._traced.parts:
            for node, module in part.called.items():
                if module in leaves and node not in part.abandoned:
                    self._of[module].append(_call(node, part))
            for path, _, node in tensors_read(part, self._names):
                self._touched.add(path)
                if not node.users or any(operation(user) not in WITHOUT_VALUES for user in node.users):
                    self._read.add(path)
        for failed in self._traced.failed:
            read = attributes_read(failed)
            for layer in leaves:
                held = (*layer._parameters, *layer._buffers)
                if any((path[-1], name) in read for path in self._paths(failed, layer) for name in held):
                    self._read.update(self._names[layer])
                    self._touched.update(self._names[layer])

    def of(self, layer: nn.Module) -> list[Call]:
        """All calls of a layer that were seen."""
        return self._of[layer]

    def called(self, part: Part, node: fx.Node | None) -> nn.Module | None:
        """The module that a node calls."""
        return None if node is None else part.called.get(node)

    def is_read(self, layer: nn.Module, *, values: bool = True) -> bool:
        """Whether some forward pass reads the parameters or buffers of a layer past its call.

        Args:
            layer: any layer.
            values: whether to read their shape or type does not count.
        """
        return not (self._read if values else self._touched).isdisjoint(self._names[layer])

    def may_be_read(self, layer: nn.Module) -> bool:
        """Whether some forward pass reads the parameters of a layer past its call, or could not be traced and may."""
        failed = self._traced.failed
        return self.is_read(layer) or any(may_reach(f, path) for f in failed for path in self._paths(f, layer))

    def only_user(self, call: Call) -> fx.Node | None:
        """The one node that uses what a layer gives, once; None where there are several or none, or it is kept."""
        if call.node in call.part.kept:
            return None
        users = [user for user in call.node.users if user not in call.part.abandoned]
        return users[0] if len(users) == 1 and _times(users[0], call.node) == 1 else None

    def unseen(self, first: nn.Module, second: nn.Module) -> str | None:
        """Why there may be other calls of two layers, one of which is called with what the other gives; None where
        all were seen.
        """
        for layer in (first, second):
            if self.is_read(layer):
                return f"the weight of {self._shown(layer)} is read elsewhere"
        for one in self._of[first]:
            for other in self._of[second]:
                if one.part is other.part and (why := self._hidden(first, second, one, other)):
                    return why
        return None

    def _hidden(self, first: nn.Module, second: nn.Module, one: Call, other: Call) -> str | None:
        """Whether a forward pass that could not be traced, or a hook, may come between two calls."""
        frames = [call.part.frames[call.node] for call in (one, other)]
        common = [a for a, b in zip(*frames, strict=False) if a is b]
        for frame in {*frames[0], *frames[1]} - set(common):
            if hooks_of(frame):
                return f"{self._shown(frame)}, between them, has hooks"
        for failed, why in self._traced.failed.items():
            for layer in (first, second):
                for path in self._paths(failed, layer):
                    # The way from there to the module in whose forward pass both are called, and on to the layer.
                    outer = self._outer(failed, common[-1], path)
                    if not outer or may_reach(failed, path):
                        return f"{self._shown(failed)} cannot be traced ({why}), and may use them elsewhere"
        return None

    def _paths(self, outer: nn.Module, inner: nn.Module) -> Iterator[list[str]]:
        for above in self._names[outer]:
            prefix = f"{above}." if above else ""
            for name in self._names[inner]:
                if name.startswith(prefix) and name != above:
                    yield name[len(prefix) :].split(".")

    def _outer(self, failed: nn.Module, common: nn.Module, path: Sequence[str]) -> bool:
        """Whether, on a path from a module to a layer, there lies the module whose forward pass calls that layer."""
        module, found = failed, False
        for step in path:
            module = module.get_submodule(step)
            found |= module is common
        return found

    def _shown(self, module: nn.Module) -> str:
        names = self._names.get(module)
        return (names[0] or "the model") if names else type(module).__name__


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a normalization, or a layer with a weight that one may be folded into."""
    return is_norm(module) or isinstance(module, (_ConvNd, nn.Linear))


def hooks_of(module: nn.Module) -> bool:
    """Whether hooks of its own see, or change, what a module is given or gives in a forward pass."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _call(node: fx.Node, part: Part) -> Call:
    given = [*node.args, *node.kwargs.items()]
    first = given[0] if given else None
    x = first[1] if isinstance(first, tuple) and not node.args else first
    single = isinstance(x, fx.Node) and _times(node, x) == 1
    return Call(node, part, x if isinstance(x, fx.Node) and single else None, len(given) == 1 and single)


def _times(user: fx.Node, node: fx.Node) -> int:
    """How often a node is among the arguments of another, also in lists."""
    found: Counter[fx.Node] = Counter()
    fx.map_arg((user.args, user.kwargs), lambda each: found.update([each]))
    return found[node]
