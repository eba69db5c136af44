"""A module whose forward pass is rewritten, and which takes its own again wherever the two might differ."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from switchnorm.surgery.fusion import Site, fuse_graph, is_plain, layer_refusal, norm_calls
from switchnorm.surgery.shallow import RefusalError, shallow_graph


class Program:
    """The rewritten forward pass of one module.

    Args:
        module: not changed by this.

    Attributes:
        found: for each call of a normalization its path, and its site or why it has none.
        sites: those that were fused.

    Raises:
        RefusalError: a forward pass that cannot be rewritten.
    """

    def __init__(self, module: nn.Module) -> None:
        self.found: list[tuple[str, Site | str]] = []
        self.sites: list[Site] = []
        # One for tensors and one for lists of them, since a forward pass may ask which it was given.
        self._variants: dict[type, Callable[..., Any]] = {}
        refusals = []
        parents: set[str] = set()
        for argument in (Tensor, list):
            try:
                graph = shallow_graph(module, argument, lambda graph: not norm_calls(graph, module))
            except RefusalError as error:
                refusals.append(error)
                continue
            if not norm_calls(graph, module):
                return
            parents |= {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "call_module"}
            self.found += fuse_graph(graph, module)
            self._variants[argument] = _compiled(graph)
        if not self._variants:
            raise refusals[0]
        self.found = list(dict.fromkeys(self.found))
        self.sites = [site for _, site in self.found if isinstance(site, Site)]
        # Sequences run whatever they hold.
        self._children = {parent: _child_names(module, parent) for parent in parents | {""}}

    def variant(self, module: nn.Module, args: tuple[Any, ...]) -> Callable[..., Any] | None:
        """The rewritten forward pass for these arguments; None if only the module's own is sure to be right.

        That is so where layers were added or replaced, or hooks registered, since the forward pass was rewritten.
        """
        kinds = {Tensor if isinstance(arg, Tensor) else type(arg) for arg in args}
        found = self._variants.get(kinds.pop()) if len(kinds) == 1 else None
        if found is None or any(_child_names(module, parent) != names for parent, names in self._children.items()):
            return None
        for site in self.sites:
            if layer_refusal(module.get_submodule(site.norm)):
                return None
            if not all(is_plain(module.get_submodule(path), cls) for path, cls in site.idle):
                return None
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self

    def __reduce__(self) -> Any:
        # Functions made here cannot be found again by name: a pickle holds None.
        return type(None), ()


class Fused(nn.Module):
    """What rewritten modules have in common; `rewrite` makes them. They still are of the class that they were of.

    A pickle holds the module as it was, which is rewritten again when it is loaded.
    """

    _program: ClassVar[Program | None]
    _original: ClassVar[type[nn.Module]]

    def __setattr__(self, name: str, value: Any) -> None:
        before = getattr(self, name, None)
        same_kind = any(isinstance(value, kind) and isinstance(before, kind) for kind in (Tensor, nn.Module))
        # A forward pass may read in Python what is set here; modules and tensors it reads when it runs.
        if not same_kind and name not in ("training", "__class__") and hasattr(self, name):
            vars(self)["_own_forward"] = True
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced = super().__reduce_ex__(max(int(protocol), 2))
        return _blank, (self._original, self._program), reduced[2]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._program is None:
            self.__class__ = self._original  # type: ignore[assignment]
            with suppress(RefusalError):
                rewrite(self, Program(self))


def is_rewritten(module: nn.Module) -> bool:
    """Whether a module takes a rewritten forward pass."""
    return isinstance(module, Fused) and "_own_forward" not in vars(module)


def original(module: nn.Module) -> type[nn.Module]:
    """The class of a module before it was rewritten."""
    return module._original if isinstance(module, Fused) else type(module)


def rewrite(module: nn.Module, program: Program | None) -> None:
    """Make `module` take a rewritten forward pass.

    The class changes and not the object, so that whatever refers to the module, its state and its hooks stay valid.
    """
    cls = original(module)
    vars(module).pop("_own_forward", None)

    @functools.wraps(cls.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Compilers fuse by themselves, and should not have to understand this.
        if program is not None and not kwargs and not torch.compiler.is_compiling() and is_rewritten(self):
            variant = program.variant(self, args)
            if variant is not None:
                return variant(self, *args)
        return cls.forward(self, *args, **kwargs)

    members = {"forward": forward, "_program": program, "_original": cls, "__module__": cls.__module__}
    module.__class__ = type(f"Fused{cls.__name__}", (Fused, cls), members)


def pickles_plainly(cls: type[nn.Module]) -> bool:
    """Whether modules of a class are copied and pickled as any object is."""
    plain = cls.__reduce__ is object.__reduce__ and cls.__reduce_ex__ is object.__reduce_ex__
    return plain and not hasattr(cls, "__deepcopy__")


def _compiled(graph: fx.Graph) -> Callable[..., Any]:
    """The forward pass of a graph, a function of the module and its arguments."""
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(code.src, namespace)
    forward: Callable[..., Any] = namespace["forward"]
    return forward


def _blank(cls: type[nn.Module], program: Program | None) -> nn.Module:
    """A module to which its state is still to be given."""
    module = cls.__new__(cls)
    rewrite(module, program)
    return module


def _child_names(module: nn.Module, path: str) -> tuple[str, ...]:
    return tuple(module.get_submodule(path)._modules)
