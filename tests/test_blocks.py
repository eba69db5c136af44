"""Every block of Python of README.md and docs/ runs, page by page, as somebody who reads on would run it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import switchnorm
from switchnorm.ops.kernels.choice import KernelFallback
from tests import pages
from tests.weights.files import recorded_state, write_zip
from tests.weights.test_detectors import published_file

pytestmark = pytest.mark.usefixtures("own_registry")

#: What has a test of its own, which looks at what comes of it.
OWN = {"docs/own_loops.md", "docs/extending.md", "docs/deployment.md", "docs/tutorial.ipynb"}


#: A small file in place of a published one, by whose name that is known.
DETECTOR = "mask.pth"
INSTEAD = {**pages.DOWNLOADS, "mask_rcnn_R-50-FPN_2x_sn_(8,1).pth": DETECTOR}


class FilterResponseNorm(nn.Module):
    """What the reader is to have written."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))


def batches(classes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Some to train on."""
    return [(torch.randn(2, 3, 64, 64), torch.tensor([0, classes - 1])) for _ in range(3)]


def checkpoints() -> dict[str, Any]:
    """The published files of the page, small where they can be."""
    write_zip({"state_dict": recorded_state("resnetv1ssn50")}, Path("ssn_8x2.pth"))
    published_file(DETECTOR, statistics="instance,layer", num_classes=80)
    return {}


#: What a reader of a page has already.
NAMES: dict[str, Callable[[], dict[str, Any]]] = {
    "README.md": lambda: {"batches": batches(1000)},
    "docs/start.md": lambda: {"batches": batches(10)},
    "docs/switching.md": lambda: {
        "batches": [x for x, _ in batches(1000)],
        "FilterResponseNorm": FilterResponseNorm,
    },
    "docs/segmentation.md": lambda: {"switchnorm": switchnorm},
    "docs/detection.md": lambda: {"switchnorm": switchnorm},
    "docs/checkpoints.md": checkpoints,
    "docs/api/index.md": dict,
}


@pytest.mark.parametrize("page", NAMES)
def test_the_page_runs(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, module="switchnorm")
        warnings.filterwarnings("ignore", category=KernelFallback)  # which kernel computes depends on the machine
        pages.execute(page, NAMES[page](), INSTEAD)


def test_no_page_is_left_out() -> None:
    found = {str(page.relative_to(pages.ROOT)) for page in pages.PAGES if pages.blocks(page)}
    assert found == NAMES.keys() | OWN
