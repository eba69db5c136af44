"""Whether the code of a module that could not be traced may call, or read, what is deep inside of it."""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

# Whoever goes through modules by these may reach any of them.
_WALKS = frozenset(
    str.split("""
    modules children named_modules named_children _modules get_submodule parameters named_parameters get_parameter
    state_dict getattr vars eval exec __dict__ attrgetter
    """)
)
_HARMLESS = frozenset(
    str.split("""
    IS_OP POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE POP_JUMP_FORWARD_IF_NONE POP_JUMP_FORWARD_IF_NOT_NONE
    POP_JUMP_BACKWARD_IF_NONE POP_JUMP_BACKWARD_IF_NOT_NONE POP_JUMP_IF_TRUE POP_JUMP_IF_FALSE
    POP_JUMP_FORWARD_IF_TRUE POP_JUMP_FORWARD_IF_FALSE TO_BOOL
    """)
)
_SILENT = frozenset(("CACHE", "EXTENDED_ARG", "PUSH_NULL", "NOT_TAKEN", "NOP"))


# Whose classes do not look into what somebody puts into them: Python's, and torch's containers and wrappers.
_FOUNDATIONS = sys.stdlib_module_names | {"torch"}


def may_reach(module: nn.Module, path: Sequence[str]) -> bool:
    """Whether the forward pass of a module may use the module at a path inside of it past the first of the path.

    To do so its code must take hold of the first module without calling it, or hand the whole to somebody else. What
    it then does is not followed, unless it asks for another attribute, or whether there is one.

    Args:
        module: the forward pass of which could not be traced.
        path: the names that lead from it to the inner module; several.
    """
    for code, own in _codes(module):
        if not _WALKS.isdisjoint(code.co_names):
            return True
        steps = [step for step in dis.get_instructions(code) if step.opname not in _SILENT]
        following = [*steps[1:], None]
        for step, after in zip(steps, following, strict=True):
            if own is not None and _hands_over(step, after, own):
                return True
            if step.argval == path[0] and _loads(step) and not _calls(step) and _holds(after, path[1:]):
                return True
    return False


def attributes_read(module: nn.Module) -> set[tuple[str, str]]:
    """The attributes that the code of a module reads of its attributes, as ("conv", "weight")."""
    found = set()
    for code, _ in _codes(module):
        steps = [step for step in dis.get_instructions(code) if step.opname not in _SILENT]
        for step, after in pairwise(steps):
            if _loads(step) and _loads(after):
                found.add((step.argval, after.argval))
    return found


def _codes(module: nn.Module) -> Iterator[tuple[types.CodeType, str | None]]:
    """The code of all methods that whoever wrote the class, or the object, gave it, but for making it; and what each
    calls the module, where it is given it.
    """
    functions: list[tuple[Any, bool]] = [
        (value, isinstance(value, types.MethodType)) for value in vars(module).values() if callable(value)
    ]
    for cls in type(module).__mro__:
        home = cls.__module__.partition(".")[0]
        if home == "__main__" or home not in _FOUNDATIONS:
            own = [value for name, value in vars(cls).items() if name not in ("__init__", "__new__")]
            functions += [(value, not isinstance(value, staticmethod)) for value in own]
    for function, is_method in functions:
        for part in (function, *(getattr(function, name, None) for name in ("__func__", "__wrapped__", "fget"))):
            code = getattr(part, "__code__", None)
            if isinstance(code, types.CodeType):
                given = code.co_varnames[0] if is_method and code.co_argcount else None
                yield from ((each, given) for each in _nested(code))


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _hands_over(step: dis.Instruction, after: dis.Instruction | None, own: str) -> bool:
    """Whether code takes hold of the module of which it is a method, and not of an attribute of it."""
    if step.opname not in ("LOAD_FAST", "LOAD_DEREF", "LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW"):
        return False
    names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
    if own not in names:
        return False
    if names[-1] != own:
        return True
    return after is None or not (_loads(after) or after.opname in ("STORE_ATTR", "DELETE_ATTR", "LOAD_SUPER_ATTR"))


def _loads(step: dis.Instruction) -> bool:
    return step.opname in ("LOAD_ATTR", "LOAD_METHOD")


def _calls(step: dis.Instruction) -> bool:
    """Whether an attribute is loaded to be called at once, which Pythons from 3.12 on write into the argument."""
    return step.opname == "LOAD_METHOD" or (sys.version_info >= (3, 12) and bool((step.arg or 0) & 1))


def _holds(after: dis.Instruction | None, path: Sequence[str]) -> bool:
    """Whether code that has loaded a module may go on to what is inside of it."""
    if after is None or after.opname in _HARMLESS or (after.opname == "LOAD_CONST" and after.argval is None):
        return False
    return not (_loads(after) and after.argval not in path)
