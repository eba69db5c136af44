"""The layer before a normalization, and the one after, where nothing lies between and nobody else sees what does."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from switchnorm.layers.evaluated import Constant
from switchnorm.surgery.folding.calls import Call, Calls
from switchnorm.surgery.folding.weights import Layer, input_refusal, output_refusal, outputs_of
from switchnorm.surgery.kinds import is_norm
from switchnorm.surgery.operations import is_elementwise, makes_flat, operation
from switchnorm.surgery.tracing import Part

_UNSEEN = "no call of it was seen"


class Neighbours:
    """Which layers may take up the constants of which normalizations.

    Args:
        model: any model; as before afterwards.
        names: of its modules.
    """

    def __init__(self, model: nn.Module, names: dict[nn.Module, list[str]]) -> None:
        self._calls = Calls(model)
        self._names = names
        self._tied = _tied(model)

    def seen(self, norm: nn.Module) -> list[Call]:
        """The calls of a normalization."""
        return self._calls.of(norm)

    def read(self, norm: nn.Module) -> bool:
        """Whether a forward pass reads the parameters of a normalization past its call."""
        return self._calls.is_read(norm, values=False)

    def may_be_read(self, conv: nn.Module) -> bool:
        """Whether a forward pass reads, or may read, the weight of a convolution past its call."""
        return self._calls.may_be_read(conv)

    def before(self, norm: nn.Module, channels: int) -> Layer | str:
        """The layer whose output, and nothing else, a normalization is given, which nobody else is; or why there is
        none that could take up an affine map.
        """
        calls = self._calls.of(norm)
        if not calls:
            return _UNSEEN
        given = {self._source(call) for call in calls}
        source = given.pop()
        if given:
            return "it is given what several layers give"
        if isinstance(source, str):
            return source
        if len(self._calls.of(source)) != len(calls):
            return f"{self._shown(source)} is called elsewhere too"
        for call in self._calls.of(source):
            user = self._calls.only_user(call)
            if user is None or self._calls.called(call.part, user) is not norm:
                return f"what {self._shown(source)} gives is {self._use(call)}"
        if (why := self._calls.unseen(source, norm)) is not None:
            return why
        if outputs_of(source) != channels:
            return f"{self._shown(source)} gives {outputs_of(source)} channels"
        if isinstance(source, nn.Linear) and not all(self._flat(c.part, c.x) for c in self._calls.of(source)):
            return f"what {self._shown(source)} gives may have its features last"
        why = self._tied_to(source) or output_refusal(source)
        return source if why is None else f"{self._shown(source)} {why}"

    def after(self, norm: nn.Module, constant: Constant) -> Layer | str:
        """The layer that alone is given what a normalization by constants gives, and nothing else; or why there is
        none that could take the map up.
        """
        calls = self._calls.of(norm)
        if not calls:
            return _UNSEEN
        if not all(call.alone for call in calls):
            return "it is called with more than its input"
        users = {self._user(call) for call in calls}
        user = users.pop()
        if users:
            return "several layers are given what it gives"
        if isinstance(user, str):
            return user
        if len(self._calls.of(user)) != len(calls) or any(c.x is None or not c.alone for c in self._calls.of(user)):
            return f"{self._shown(user)} is called elsewhere too"
        if (why := self._calls.unseen(norm, user)) is not None:
            return why
        if isinstance(user, nn.Linear) and not all(self._flat(c.part, c.x) for c in self._calls.of(user)):
            return f"what {self._shown(user)} is given may have its features last"
        inputs = user.in_features if isinstance(user, nn.Linear) else user.in_channels
        if inputs != len(constant.scale):
            return f"{self._shown(user)} takes {inputs} channels"
        why = self._tied_to(user) or input_refusal(user, constant)
        return user if why is None else f"{self._shown(user)} {why}"

    def flat(self, norm: nn.Module) -> bool:
        """Whether a normalization is sure to be given (N, C) alone."""
        calls = self._calls.of(norm)
        return bool(calls) and all(self._flat(call.part, call.x) for call in calls)

    def spatial(self, norm: nn.Module) -> int | None:
        """The spatial dimensions of what a normalization is given, where a convolution alone gives it."""
        sources = {self._source(call) for call in self._calls.of(norm)}
        dims = {len(source.kernel_size) if isinstance(source, _ConvNd) else None for source in sources}
        return dims.pop() if len(dims) == 1 else None

    def _source(self, call: Call) -> Layer | str:
        if call.x is None:
            return "it is given no single tensor"
        source: Any = self._calls.called(call.part, call.x)
        if isinstance(source, (_ConvNd, nn.Linear)):
            return source
        return f"{self._kind(call.part, call.x, source)} comes before it"

    def _user(self, call: Call) -> Layer | str:
        user = self._calls.only_user(call)
        if user is None:
            return f"what it gives is {self._use(call)}"
        module: Any = self._calls.called(call.part, user)
        if isinstance(module, (_ConvNd, nn.Linear)):
            return module
        return f"{self._kind(call.part, user, module)} comes after it"

    def _use(self, call: Call) -> str:
        if call.node in call.part.kept:
            return "kept in an attribute"
        users = [user for user in call.node.users if user not in call.part.abandoned]
        if len(users) != 1:
            return f"used {len(users)} times"
        return f"used by {self._kind(call.part, users[0], call.part.called.get(users[0]))}"

    def _kind(self, part: Part, node: fx.Node, module: nn.Module | None) -> str:
        if module is not None:
            return f"{self._shown(module)} ({type(module).__name__})"
        if node.op == "placeholder":
            return f"an argument of {self._shown(part.frames[node][0])}"
        return {"output": "what is around it"}.get(node.op, operation(node))

    def _flat(self, part: Part, node: fx.Node | None) -> bool:
        """Whether a value is sure to be (N, C)."""
        if node is None or node.op not in ("call_function", "call_method", "call_module"):
            return False
        module = part.called.get(node)
        if module is None and makes_flat(node):
            return True
        if isinstance(module, nn.Linear) or (module is not None and is_norm(module)):
            return self._flat(part, node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None)
        inputs = node.all_input_nodes
        return module is None and is_elementwise(node) and bool(inputs) and all(self._flat(part, i) for i in inputs)

    def _tied_to(self, layer: nn.Module) -> str | None:
        others = {other for p in layer._parameters.values() if p is not None for other in self._tied[_place(p)]}
        others.discard(layer)
        return None if not others else f"shares its weight with {self._shown(others.pop())}"

    def _shown(self, module: nn.Module) -> str:
        found = self._names.get(module)
        return (found[0] or "the model") if found else type(module).__name__


def _tied(model: nn.Module) -> dict[Any, set[nn.Module]]:
    """For every place in memory the modules that have a tensor there."""
    found: defaultdict[Any, set[nn.Module]] = defaultdict(set)
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                found[_place(tensor)].add(module)
    return found


def _place(tensor: Tensor) -> Any:
    if (
        isinstance(tensor, (UninitializedParameter, UninitializedBuffer))
        or tensor.layout is not torch.strided
        or tensor.numel() == 0
    ):
        return id(tensor)
    return tensor.device, tensor.data_ptr()
