"""`python -m tests.ops.kernels.overflowing FOLDER`: a call whose output is too short, which a sanitizer has to find."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from switchnorm import SwitchNorm2d
from switchnorm.ops.kernels.native import build, node


def main() -> int:
    """Normalize into memory of one element less."""
    build.BUILT = Path(sys.argv[1])
    node.torch.empty_like = lambda t: torch.empty(t.numel() - 1)
    with torch.no_grad():
        SwitchNorm2d(8)(torch.randn(2, 8, 5, 5))
    return 0


if __name__ == "__main__":
    sys.exit(main())
