"""What ends a training in one line: short memory, lost processes, unreadable data, a step too far, no compiler."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.files import WriteError
from switchnorm.processes import world_size
from switchnorm.runs.folder import RunFolder
from switchnorm.training.callbacks.divergence import DivergedError
from switchnorm.training.callbacks.interruption import resuming

#: What a CPU's allocator says in a plain RuntimeError.
_CPU_MEMORY = ("can't allocate memory", "not enough memory")

#: What an optimizer says in a plain RuntimeError of a number that it multiplies float32 by, and that is beyond it.
_OVERFLOW = "without overflow"

#: What gloo says in a plain RuntimeError where the other end is gone.
_GLOO = ("gloo", "Connection closed by peer", "Connection reset by peer")

#: Where torch.compile and its compilers define their errors.
_COMPILING = ("torch._dynamo.", "torch._inductor.")


@contextmanager
def compiling(switch: str) -> Iterator[None]:
    """Raise what torch.compile fails of as an `InputError`: mostly there is no compiler for the code that it writes.

    Args:
        switch: how to do without it, as "set train.compile to false".
    """
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(_COMPILING):
            raise
        said = str(error) or type(error).__name__
        # What a compiler printed comes after the first paragraph, and its first error says what is missing.
        printed = re.search(r"^.*\berror: .*$", said, re.MULTILINE)
        reason = " ".join((said.partition("\n\n")[0] if printed is None else printed.group()).split())
        raise InputError(f"torch.compile fails here: {reason}; install what it misses, or {switch}") from error


@contextmanager
def explained(run: RunFolder, config: Config) -> Iterator[None]:
    """Raise what is known to end a training as an `InputError` that says how to go on; everything else as it is."""
    try:
        with compiling("set train.compile to false"):
            yield
    except (DivergedError, WriteError):  # the latter is told how to go on by whoever holds the run
        raise
    except InputError as error:
        raise InputError(f"{error}{_going_on(run)}") from error
    except (MemoryError, RuntimeError) as error:
        if _OVERFLOW in str(error):
            lr = config.optimizer.lr
            raise InputError(
                f"the step of {config.optimizer.name} overflows at --optimizer.lr {lr:g}; lower it"
            ) from error
        if is_memory(error):
            raise InputError(_memory(config)) from error
        if is_lost(error):
            raise InputError(f"another process of this training has ended{_going_on(run)}") from error
        raise


def is_memory(error: Exception) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    said = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in _CPU_MEMORY)


def is_lost(error: Exception) -> bool:
    """Whether a message to the other processes of a training failed."""
    if world_size() == 1:
        return False
    return isinstance(error, dist.DistError) or any(words in str(error) for words in _GLOO)


def _memory(config: Config) -> str:
    train = config.train
    where = "of the device" if train.device not in ("auto", "cpu") else "here"
    half, samples = max(train.batch_size // 2, 1), train.samples_per_gpu or 1
    ghosts = f" --samples-per-gpu {half}" if half < samples else ""
    half -= 0 if ghosts else half % samples  # ghost batches divide a batch
    same = (
        f", with --train.iteration_size {2 * train.iteration_size} for steps over as many samples" if half > 1 else ""
    )
    return (
        f"memory {where} is short for batches of {train.batch_size}, and of {train.test_batch} in validation; "
        f"start a new run with --batch-size {half}{ghosts}{same}, or with --precision bf16"
    )


def _going_on(run: RunFolder) -> str:
    return f"; continue with `{resuming(run)}`" if run.last.is_file() else ""
