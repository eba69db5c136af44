"""README.md: its Python runs, block after block, and its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from switchnorm.layers import registry
from tests.contracts.half import fresh_registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

#: What a page for people asks for and a test does without: weights from a network.
DOWNLOADS = {"pretrained=True": "pretrained=False", 'weights="DEFAULT"': "weights=None"}


class FilterResponseNorm(nn.Module):
    """What the reader is to have written."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fresh_registry(monkeypatch)
    yield
    monkeypatch.undo()
    registry._changed()


@pytest.mark.usefixtures("_fresh")
def test_the_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    batches = [(torch.randn(2, 3, 64, 64), torch.tensor([0, 1])) for _ in range(3)]
    names: dict[str, Any] = {"batches": batches, "FilterResponseNorm": FilterResponseNorm}
    for block in BLOCKS:
        for asked, done in DOWNLOADS.items():
            block = block.replace(asked, done)
        exec(block, names)
    assert "switch to ssn+ws" in capsys.readouterr().out


def test_the_first_example_is_a_pretrained_network() -> None:
    assert all(asked in block for asked, block in zip(DOWNLOADS, BLOCKS, strict=False))


def test_the_plain_loop_has_eight_lines_and_makes_ssn_sparse() -> None:
    assert len(BLOCKS[1].splitlines()) == 8
    names: dict[str, Any] = {"batches": [(torch.randn(2, 3, 64, 64), torch.tensor([0, 1])) for _ in range(3)]}
    exec("import switchnorm, torch, torchvision\n" + BLOCKS[1].replace(*next(reversed(DOWNLOADS.items()))), names)
    assert all(layer.radius == 1 for layer in names["model"].modules() if hasattr(layer, "radius"))


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]*)\)", PAGE))
def test_links_lead_somewhere(link: str) -> None:
    assert "://" in link or (ROOT / link.partition("#")[0]).exists()
