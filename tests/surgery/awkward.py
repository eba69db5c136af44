"""Modules that do in their forward pass what nobody should, put together at random, and a process that plans on them.

`python -m tests.surgery.awkward FIRST LAST` prints the number of each module before it plans on it, and what the
plans changed after it.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import gc
import itertools
import random
import sys
import threading
import types
import weakref
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from switchnorm.surgery import plan_fold, plan_fuse, plan_switch, switch


class FrozenDict(collections.OrderedDict):
    """As that of diffusers: filled once, and then refuses."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for key, value in self.items():
            setattr(self, key, value)
        self._frozen = True

    def __setitem__(self, key, value) -> None:
        if getattr(self, "_frozen", False):
            raise TypeError("frozen")
        super().__setitem__(key, value)

    def update(self, *args, **kwargs):
        raise TypeError("frozen")


class Noisy(collections.OrderedDict):
    """Counts what is done to it."""

    touched = 0

    def __setitem__(self, key, value) -> None:
        Noisy.touched += 1
        super().__setitem__(key, value)


class Watched(list):
    """A list that remembers how long it ever was."""

    def append(self, value) -> None:
        self.longest = len(self) + 1
        super().append(value)


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("count", "held")

    def __init__(self) -> None:
        self.count, self.held = 0, []


class Handle:
    """Lets go of something when it dies."""

    closed: ClassVar[list[int]] = []

    def __del__(self) -> None:
        Handle.closed.append(1)


@dataclasses.dataclass
class Output:
    """What some models return."""

    logits: object
    extra: object = None


class Double(torch.autograd.Function):
    """An operation with a gradient of its own."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


double = Double.apply


def steps():
    """What a forward pass does with itself and with a value, by name."""
    return {
        "conv": lambda m, x: m.conv(x),
        "norm": lambda m, x: m.norm(x),
        "relu": lambda m, x: m.norm(x).relu(),
        "residual": lambda m, x: F.relu(m.norm(x) + x),
        "stores": lambda m, x: setattr(m, "seen", x) or x,
        "appends": lambda m, x: m.kept.append(x) or x,
        "watched": lambda m, x: m.watched.append(1) or x,
        "nested": lambda m, x: m.deep["a"][0]["b"].append(x) or x,
        "frozen": lambda m, x: x * m.config["scale"],
        "noisy": lambda m, x: x * len(m.noisy),
        "deque": lambda m, x: m.queue.append(x) or x,
        "rotates": lambda m, x: m.queue.rotate(1) or x,
        "slots": lambda m, x: setattr(m.slots, "count", m.slots.count + 1) or m.slots.held.append(x) or x,
        "class attribute": lambda m, x: m.cache.__setitem__("x", x) or x,
        "class tensor": lambda m, x: x + m.constant.add_(1),
        "plain tensor": lambda m, x: x + m.plain.mul_(2),
        "buffer": lambda m, x: x + m.counter.add_(1),
        "buffer anew": lambda m, x: setattr(m, "counter", m.counter + 1) or x,
        "parameter": lambda m, x: m.weight.data.zero_() is None or x,
        "no_grad parameter": lambda m, x: torch.no_grad()(m.weight.add_)(1) is None or x,
        "sets": lambda m, x: m.names.add(len(m.names)) or x,
        "closure": lambda m, x: m.closure(x),
        "bound": lambda m, x: m.bound(x) or x,
        "partial": lambda m, x: m.partial(1) or x,
        "generator": lambda m, x: x * next(m.generator),
        "count": lambda m, x: x * next(m.iterator),
        "lock": lambda m, x: m.lock.acquire(blocking=False) and x,
        "parent": lambda m, x: setattr(m.parent(), "seen", 1) or x,
        "random": lambda m, x: x * random.random(),
        "torch random": lambda m, x: x * torch.rand(()),
        "seeds": lambda m, x: torch.manual_seed(0) and x,
        "mode": lambda m, x: m.train(not m.training) and x,
        "mode of a part": lambda m, x: m.norm.eval() and x,
        "hooks": lambda m, x: m.norm.register_forward_hook(print) and x,
        "grad mode": lambda m, x: (torch.set_grad_enabled(False) and None) or x,
        "no_grad": lambda m, x: torch.no_grad()(m.norm)(x).relu(),
        "dtype": lambda m, x: torch.set_default_dtype(torch.float64) or x,
        "requires_grad": lambda m, x: m.requires_grad_(False) and x,
        "adds a module": lambda m, x: m.add_module("new", nn.ReLU()) or x,
        "removes a module": lambda m, x: m._modules.pop("spare", None) and x,
        "replaces a norm": lambda m, x: setattr(m, "norm", nn.BatchNorm2d(4)) or x,
        "heads": lambda m, x: [x, *(F.interpolate(h, x.shape[2:]) for h in m.heads)][0],
        "sizes of modules": lambda m, x: F.interpolate(m.heads[0], m.norm(x)) + x,
        "sizes in views": lambda m, x: m.heads[0].view(m.norm(x), m.norm(x)) + x,
        "sizes in reductions": lambda m, x: m.heads[0].sum(m.norm(x)) + x,
        "sizes of zeros": lambda m, x: torch.zeros(m.norm(x)) + x,
        "scalars": lambda m, x: torch.full((2, 2), m.norm(x)) + x,
        "lists": lambda m, x: torch.cat(m.norm(x), 1),
        "indices": lambda m, x: m.heads[0][m.norm(x)],
        "out": lambda m, x: torch.add(x, 1, out=m.plain),
        "numpy": lambda m, x: torch.from_numpy(m.array) + x,
        "writes numpy": lambda m, x: m.array.fill(3) or x,
        "to numpy": lambda m, x: m.plain.numpy().fill(5) or x,
        "pointer": lambda m, x: x if m.plain.data_ptr() else x + 1,
        "values": lambda m, x: x if x.sum() > 0 else -x,
        "items": lambda m, x: x * m.plain.sum().item(),
        "shapes": lambda m, x: x if x.shape[0] > 1 else -x,
        "loop": lambda m, x: next(x for _ in range(x.shape[0])),
        "isinstance": lambda m, x: x + 1 if isinstance(m.norm(x), torch.Tensor) else x[0],
        "custom function": lambda m, x: Double.apply(m.norm(x)).relu(),
        "custom function by name": lambda m, x: double(m.norm(x)).relu(),
        "script": lambda m, x: m.script(x),
        "lazy": lambda m, x: m.lazy(x),
        "listed module": lambda m, x: m.hidden[0](x),
        "checkpoint": lambda m, x: torch.utils.checkpoint.checkpoint(m.norm, x, use_reentrant=False),
        "vmap": lambda m, x: torch.vmap(lambda y: y * 2)(x),
        "exits": lambda m, x: sys.exit(3),
        "raises": lambda m, x: m.nothing(x),
        "recursion": lambda m, x: m(x),
        "property": lambda m, x: m.broken,
        "parametrized": lambda m, x: m.parametrized(x),
        "prints": lambda m, x: print("printed") or x,
        "deletes": lambda m, x: delattr(m, "seen") or x,
        "clears": lambda m, x: vars(m).clear() or x,
        "copies": lambda m, x: copy.deepcopy(m.norm(x)),
        "text": lambda m, x: m.kept.append(f"{x}") or x,
        "reentrant": lambda m, x: torch.utils.checkpoint.checkpoint(m.norm, x, use_reentrant=True),
        "permutation": lambda m, x: m.heads[0].permute(m.norm(x), m.norm(x)) + x,
        "augmented": lambda m, x: m.kept.__iadd__([x]) and x,
    }


class Awkward(nn.Module):
    """Some of the steps, one after another; returns what `returns` says."""

    cache: ClassVar[dict[str, object]] = {}
    constant = torch.ones(1)

    def __init__(self, names, returns, seed) -> None:
        super().__init__()
        self.names_of_steps, self.returns, self.seed = names, returns, seed
        self.conv, self.norm, self.spare = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Identity()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("counter", torch.zeros(()))
        self.plain = torch.ones(1)
        self.heads = [torch.zeros(1, 4, 5, 5), torch.ones(1, 4, 3, 3)]
        self.kept, self.watched, self.names = [], Watched([1]), {0}
        self.deep = {"a": [{"b": []}]}
        self.config = FrozenDict(scale=2.0, sizes=[1, 2])
        self.noisy, self.queue = Noisy(a=1), collections.deque([1, 2], maxlen=5)
        self.slots, self.handle = Slotted(), Handle()
        self.array = self.plain.numpy().copy()
        counts = []
        self.closure = lambda x: counts.append(1) or x
        self.counts = weakref.ref(self)
        self.bound, self.partial = self.kept.append, functools.partial(self.kept.append)
        self.generator, self.iterator = (i for i in range(100)), itertools.count()
        self.lock = threading.Lock()
        self.script = torch.jit.trace(nn.ReLU(), torch.ones(1, 4, 2, 2), check_trace=False)
        self.lazy = nn.LazyConv2d(4, 1)
        self.hidden = [nn.BatchNorm2d(4)]
        self.parametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.cycle = types.SimpleNamespace(me=self, parent=None)
        self.parent = weakref.ref(self)

    @property
    def broken(self):
        raise RuntimeError("no such thing")

    def forward(self, x, *args, **kwargs):
        actions = steps()
        for name in self.names_of_steps:
            x = actions[name](self, x)
        return self.returns(x)


RETURNS = (lambda x: x, lambda x: (x, [x]), lambda x: {"out": x}, lambda x: Output(x, [x]), lambda x: None)


def awkward(number):
    """Module `number`; the first ones take a single step each."""
    names = list(steps())
    draw = random.Random(number)
    chosen = [names[number]] if number < len(names) else draw.sample(names, draw.randint(2, 5))
    draw.random() < 0.5 and chosen.append("relu")
    inner = Awkward(chosen, draw.choice(RETURNS), number)
    return nn.Sequential(nn.Conv2d(3, 4, 3), inner) if draw.random() < 0.5 else inner


def snapshot(root):
    """All that can be reached from an object: who holds what, and the values of tensors and arrays."""
    seen, todo, found = set(), [root], []
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, (type, types.ModuleType, types.CodeType, str, int, float)):
            continue
        seen.add(id(value))
        held = list(getattr(value, "__dict__", {}).items())
        if isinstance(value, dict):
            held += list(dict.items(value))
        elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
            held += list(enumerate(value))
        if isinstance(value, types.FunctionType):
            held += [(i, cell.cell_contents) for i, cell in enumerate(value.__closure__ or ())]
        if isinstance(value, Slotted):
            held += [("count", value.count), ("held", value.held)]
        if isinstance(value, nn.Module):
            held += [(name, v) for name, v in vars(type(value)).items() if isinstance(v, (dict, torch.Tensor))]
        if isinstance(value, torch.Tensor) and not isinstance(value, nn.parameter.UninitializedTensorMixin):
            found.append((id(value), value.detach().clone(), value._version, value.requires_grad, value.shape))
        elif hasattr(value, "tobytes"):
            found.append((id(value), value.tobytes()))
        found.append((id(value), type(value), [(name if isinstance(name, str) else 0, id(v)) for name, v in held]))
        todo += [v for _, v in held]
    return found


def surroundings():
    """What a forward pass can change outside of the model."""
    generator = torch.get_rng_state().sum().item(), random.getstate()
    return generator, torch.get_default_dtype(), torch.is_grad_enabled(), Noisy.touched, len(Handle.closed)


def same(before, after):
    """Whether two snapshots are equal."""
    if len(before) != len(after):
        return False
    for one, other in zip(before, after, strict=True):
        pairs = zip(one, other, strict=True)
        if not all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs):
            return False
    return True


def changes(number):
    """What the plans on module `number` change, in words."""
    model = awkward(number)
    ready = awkward(number)
    switch(ready, "sn", include=lambda name, module: True)
    found = []
    plans = {
        "plan_switch": (model, lambda: str(plan_switch(model, "sn+ws"))),
        "plan_fuse": (ready, lambda: str(plan_fuse(ready))),
        "plan_fold": (ready, lambda: str(plan_fold(ready, 9))),
    }
    gc.collect()  # Modules of earlier numbers.
    gc.disable()
    for name, (planned, run) in plans.items():
        before, around = snapshot(planned), surroundings()
        run()
        if not same(before, snapshot(planned)):
            found.append(f"{name} changed the model")
        if surroundings() != around:
            found.append(f"{name} changed its surroundings")
    gc.enable()
    count = next(awkward_part(model).iterator)
    if next(awkward_part(model).generator) or count:
        found.append("an iterator has moved")
    return found


def awkward_part(model):
    return next(m for m in model.modules() if isinstance(m, Awkward))


def main(first, last):
    gc.freeze()  # what was imported, or each collection would walk all of it
    for number in range(first, last):
        print(number, flush=True)
        for change in changes(number):
            print("changed", number, awkward_part(awkward(number)).names_of_steps, change, flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
