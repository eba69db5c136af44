"""Running statistics in the checkpoints of several processes: their mean, and beside it what each process has.

Counters of batches are among them, of which the largest stands for the mean: a process without samples does not count.

Whoever reads a checkpoint finds the mean. A resumed run needs each process's own: it has to go on as if it had never
stopped, and a checkpoint may be written at any step.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from switchnorm.surgery.over_processes import gathered, process_mean
from switchnorm.surgery.statistics import tracked_buffers
from switchnorm.weights.checkpoint import TRAINED

#: The checkpoint's key for each process's own: {state: {key: (P, C)}}. It is absent where all have the same.
KEY = "process_statistics"

#: The checkpoint's states of the network: what is evaluated, and what training goes on with where that is another.
STATES = ("state_dict", TRAINED)


def keep_mean(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Let the states of a checkpoint hold the mean over processes, and keep each process's own; every one must call.

    Args:
        module: whose checkpoint it is.
        checkpoint: as this process would write it alone.
    """
    own: dict[str, dict[str, Tensor]] = {}
    for name in [name for name in STATES if name in checkpoint]:
        state = checkpoint[name]
        each = gathered({key: state[key] for key in tracked_buffers(module)})
        differing = {key: values for key, values in each.items() if len(values) > 1 and (values != values[0]).any()}
        state.update({key: process_mean(values) for key, values in differing.items()})
        if differing:
            own[name] = differing
    if own:
        checkpoint[KEY] = own


def take_own(checkpoint: dict[str, Any], rank: int, world: int) -> None:
    """Let the states of a checkpoint hold what a process had, if as many wrote it as read it; else the mean stays.

    Args:
        checkpoint: as it was read.
        rank: of the process, 0 <= rank < world.
        world: number of processes.
    """
    for name, own in checkpoint.get(KEY, {}).items():
        checkpoint[name].update({key: each[rank].clone() for key, each in own.items() if len(each) == world})
