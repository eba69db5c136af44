"""What PyTorch's tracers see of a layer: one call, whose inside is its own business."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn
from torch.fx import Proxy

from switchnorm.errors import InputError

_call: Any = nn.Module._call_impl


class Opaque(nn.Module):
    """A module that torch.fx calls and does not trace into, as it does with torch's own.

    A forward pass that asks for shapes, chooses kernels and moves running statistics is no fixed graph of operations.
    Every tracer of torch.fx makes a node of it instead, also those that decide by the name of the package what to trace
    into. TorchScript has nothing alike, and is told so.
    """

    # Here and not in `forward`: hooks belong to the one call that the node stands for, and what a subclass does around
    # `super().forward` too.
    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Proxy):
                tracer: Any = value.tracer
                return tracer.create_proxy("call_module", tracer.path_of_module(self), args, kwargs)
        return _call(self, *args, **kwargs)

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by torch.jit.script, for every module of a model, before it looks at their code.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"torch.jit.script cannot compile {type(self).__name__}, which chooses its kernels in Python; use "
            "torch.jit.trace or torch.export"
        )
