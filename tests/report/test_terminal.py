"""Tables as the terminal shows them, and as a pipe gets them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from switchnorm.report import load_run, print_importance, print_results
from tests.report.conftest import LAYERS, Make
from tests.report.importance.records import FLAT, FROZEN, HARD, MIXED, Record


def printed(terminal: bool, *paths: Path, layers: list[Record] | None = None, width: int = 80) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, legacy_windows=False)
    if layers is None:
        print_results(paths, console)
    else:
        print_importance(layers, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pipe_gets_plain_text_with_a_star_at_the_best(runs: list[Path]) -> None:
    text = printed(False, *runs, width=40)
    assert "\x1b" not in text
    assert [line.split()[0] for line in text.splitlines() if "±" in line] == ["BN", "GN", "SN", "SSN*"]
    assert "samples per GPU 2, network cifar_resnet20, data digits, seeds 3, epochs 6" in text


def test_what_differs_has_a_column(make_run: Make) -> None:
    text = printed(False, make_run("bn"), make_run("sn", settings={"train.samples_per_gpu": 4}))
    assert "Samples per GPU" in text
    assert "network cifar_resnet20" in text


@pytest.mark.parametrize("layers", [[MIXED, HARD, FLAT, FROZEN]])
def test_eighty_columns_hold_every_number(layers: list[Record]) -> None:
    text = printed(True, layers=layers)
    assert "…" not in text
    assert "\x1b[1m" in text
    assert all(name in text for name in ("conv1.norm", "60 %", "frozen", "one-hot", "█ 100 %"))


@pytest.mark.parametrize("width", [30, 45, 60])
def test_a_narrow_terminal_shows_every_name_and_number(width: int) -> None:
    lines = re.sub(r"\x1b\[[\d;]*m", "", printed(True, layers=[MIXED, HARD], width=width)).splitlines()
    assert all(len(line) <= width for line in lines)
    assert [line for line in lines[2:] if not line.startswith(" ")] == [MIXED.layer, HARD.layer]
    assert "  ".join(line.strip() for line in lines[2:]).count("%") == 2 * sum(
        len(each.statistics) for each in (MIXED, HARD)
    )


def test_names_are_never_markup() -> None:
    tricky = Record("[red]layer[/red]", *(getattr(MIXED, name) for name in ("statistics", "mean", "var")))
    assert "[red]layer[/red]" in printed(False, layers=[tricky])


def test_a_model_without_mixing_layers_is_told_so() -> None:
    assert printed(False, layers=[]).strip() == "No layer mixes statistics."


def test_layers_of_a_run_print_too(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    print_importance(load_run(make_run("sn")).choices)
    out = capsys.readouterr().out
    assert all(layer in out for layer in LAYERS)
