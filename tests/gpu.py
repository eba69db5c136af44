"""How many workers share a CUDA device, for `make test-gpu`: `python -m tests.gpu`."""

from __future__ import annotations

import torch

from switchnorm.processes import cores

#: What a worker holds of the device's memory at the most: the truth of a large case in float64.
BYTES = 8 << 30


def workers() -> int:
    """One a core, as far as the memory goes; at least one."""
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    return max(1, min(cores(), free // BYTES))


if __name__ == "__main__":
    print(workers())
