"""Whether a file computes what its network does, in the runtime that the file is for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.deploy.adapters import Adapter
    from switchnorm.deploy.packaged import Packaged
    from switchnorm.deploy.runtime import Runtime
    from switchnorm.deploy.sizes import Shape

#: The largest difference, over the largest output, of a file of 32-bit and one of 16-bit numbers.
LIMITS = {"float": 1e-4, "half": 3e-2}
#: In a network whose own 32-bit numbers are farther than that from exact ones, how many times as far a file may be.
TIMES = 3.0
#: The most that is ever allowed.
WORST = 0.1
#: Of a file of 8-bit numbers: the root of the mean squared difference, over that of the outputs.
INT8_LIMIT = 0.5


@dataclass(frozen=True)
class Check:
    """What a file gave for some images, beside what the network gives in eager mode.

    Args:
        shape: of the images.
        error: the largest difference, over the largest output; in 8 bits that of mean squares.
    """

    shape: tuple[int, ...]
    error: float

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))}: {self.error:.1e}"


def pictures(shape: Shape, raw: bool, seed: int) -> np.ndarray:
    """Images as a file takes them: large spots under noise, 8-bit or, raw, about 0 with a deviation of about 1."""
    generator = torch.Generator().manual_seed(seed)
    spots = torch.rand((*shape[:2], 5, 5), generator=generator)
    smooth = torch.nn.functional.interpolate(spots, shape[2:], mode="bilinear", align_corners=False)
    noisy = (smooth + 0.2 * torch.rand(shape, generator=generator) - 0.1).clamp(0, 1)
    if raw:
        return ((noisy - 0.5) * 4).numpy()
    return (255 * noisy).round().to(torch.uint8).numpy()


def eager(network: Packaged, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a network gives in eager mode."""
    with torch.no_grad():
        found = network.named(torch.from_numpy(images))
    return {name: value.numpy() for name, value in found.items()}


def check(
    runtime: Runtime,
    network: Packaged,
    images: Sequence[np.ndarray],
    expected: Sequence[Mapping[str, np.ndarray]],
    *,
    half: bool,
) -> tuple[Check, ...]:
    """Compare a file with its network.

    Args:
        runtime: of the file.
        network: before it was folded.
        images: to compare on.
        expected: what the network gives for each.
        half: whether the file computes in 16-bit numbers.

    Raises:
        InputError: the two differ.
    """
    adapter: Any = network.network
    limit = LIMITS["half" if half else "float"]
    checks = []
    for shown, answer in zip(images, expected, strict=True):
        found = runtime(shown)
        error = _error(adapter, found, answer)
        if not error <= limit:
            allowed, error = _by_exact(network, shown, found, answer, limit)
            if not error <= allowed:
                raise InputError(
                    f"the file does not compute what the network does: on images of {'x'.join(map(str, shown.shape))} "
                    f"it is off by {error:.1e} of the largest output, and {allowed:.0e} is allowed; nothing was written"
                )
        checks.append(Check(shown.shape, error))
    return tuple(checks)


def check_int8(runtime: Runtime, network: Packaged, images: Sequence[np.ndarray]) -> tuple[tuple[Check, ...], str]:
    """Compare a file of 8-bit numbers with its network, on pictures of its calibration.

    Returns:
        The checks, and in words how often the likeliest class is the same; "" where there are no classes.

    Raises:
        InputError: the two have little in common.
    """
    checks, same, counted = [], 0, 0
    for shown in images:
        expected, found = eager(network, shown), runtime(shown)
        errors = [_rms(found[name], value) for name, value in expected.items() if value.dtype.kind == "f"]
        checks.append(Check(shown.shape, max(errors, default=0.0)))
        if "logits" in expected:
            agree = found["logits"].argmax(1) == expected["logits"].argmax(1)
            same, counted = same + int(agree.sum()), counted + agree.size
    worst = float(np.mean([each.error for each in checks]))
    if not worst <= INT8_LIMIT:
        raise InputError(
            f"8 bits do not hold this network: on {len(images)} of the pictures it is off by {worst:.2f} of the "
            f"outputs, and {INT8_LIMIT} is allowed; nothing was written"
        )
    answer = f"the likeliest class is the same for {100 * same / counted:.1f} % of them" if counted else ""
    return tuple(checks), answer


def _error(adapter: Adapter, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    missing = [name for name in expected if name not in found]
    if missing:
        raise InputError(f"the file lacks the output {missing[0]!r}; nothing was written")
    if any(not np.isfinite(value).all() for value in expected.values() if value.dtype.kind == "f"):
        raise InputError("the network's own outputs are not finite on pictures; nothing was written")
    return adapter.error(found, expected)


def _by_exact(
    network: Packaged,
    images: np.ndarray,
    found: Mapping[str, np.ndarray],
    answer: Mapping[str, np.ndarray],
    limit: float,
) -> tuple[float, float]:
    """What is allowed, and what a file is off, beside 64-bit numbers: a network may round by itself."""
    exact = eager(copy.deepcopy(network).double(), images)
    adapter: Any = network.network
    own = adapter.error(answer, exact)
    # What is that far from exact numbers itself is no measure of others.
    return max(limit, TIMES * own) if TIMES * own <= WORST else limit, adapter.error(found, exact)


def _rms(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape or not expected.size:
        return 0.0 if found.shape == expected.shape else float("inf")
    size = float(np.sqrt(np.mean(expected.astype(np.float64) ** 2)))
    apart = float(np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2)))
    return apart / size if size > 0 else apart
