"""What a call keeps and needs in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import Call

# The profiler's library reports every start and stop on the terminal, unless told before its first use.
os.environ.setdefault("KINETO_LOG_LEVEL", "9")


def saved_bytes(forward: Callable[[], Tensor], given: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, beside the tensors it was given.

    Storages count once and whole, however many views of them are saved.
    """
    known = {_address(tensor) for tensor in given}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = forward()  # Kept until all is counted: addresses name storages only while these live.
    counted = sum(size for address, size in saved.items() if address not in known)
    del y
    return counted


def peak_bytes(call: Call, device: torch.device | str) -> int:
    """The most memory that a call holds at a time, above what was held before."""
    if torch.device(device).type == "cuda":
        return _cuda_peak(call)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    recorded = profiler.profiler
    assert recorded is not None
    assert recorded.kineto_results is not None
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _cuda_peak(call: Call) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
