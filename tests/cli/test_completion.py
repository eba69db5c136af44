"""What a shell is told at a tab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import forked

pytest.importorskip("argcomplete", reason="pip install '.[completion]'")


def completed(line: str, folder: Path) -> list[str]:
    """How a line may go on, as the shell's function asks."""
    answer = folder / "answer"
    asking = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    env = {**os.environ, **asking, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    found = forked.run("-m", "switchnorm", cwd=folder, env=env)
    assert (found.returncode, found.stderr) == (0, "")
    return [each.strip() for each in answer.read_text().splitlines()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("switchnorm st", ["study"]),
        ("switchnorm train digits/", ["digits/resnet9"]),
        ("switchnorm train cifar10/resnet20 --norm ss", ["ssn", "ssn+ws"]),
        ("switchnorm train cifar10/resnet20 --data.ro", ["--data.root"]),
        ("switchnorm train --train.sa", ["--train.samples_per_gpu"]),
        ("switchnorm train --data camvid --data.mask", []),
        ("switchnorm study geometry --recipe dig", ["digits/resnet9"]),
        ("switchnorm study ", ["geometry", "compare"]),
        ("switchnorm study c", ["compare"]),
        ("switchnorm study geometry -", []),
        ("switchnorm study geometry --device m", ["mps"]),
        ("switchnorm train digits/resnet9 --device ", ["auto", "cpu", "cuda", "mps"]),
        ("switchnorm eval runs/a --precision b", ["bf16"]),
        ("switchnorm train digits/resnet9 --train.on_divergence ", ["stop", "skip"]),
        ("switchnorm train camvid/small --data.colors ", ["rgb", "published"]),
        ("switchnorm export RUN --format on", ["onnx"]),
        ("switchnorm eval runs/a --sta", ["--statistics"]),
        ("switchnorm predict ru", ["runs/"]),
        ('switchnorm train "cif', []),
        ("switchnorm train --data nonsense --epo", ["--epochs"]),
    ],
)
def test_the_line_goes_on(line: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    found = completed(line, tmp_path)
    assert set(words) <= set(found)
    assert not words or len(found) == len(words)
