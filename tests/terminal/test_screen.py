"""What is on the screen: programs in real terminals of several widths, drawn by an emulator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.terminal.terminal import Terminal, start

SHORT = [
    "train",
    "digits/resnet9",
    "--device",
    "cpu",
    "--norm",
    "ssn",
    "--batch-size",
    "32",
    "--out",
    "run",
]
SHORT += ["--schedule.warmup_epochs", "0", "--train.epoch_steps", "8"]

EPOCH = r"epoch {}/2  loss \d\.\d{{4}}"
REST = {
    45: r"  val_accuracy \d+\.\d\d %",
    80: r"  val_loss \d\.\d{{4}}  val_accuracy \d+\.\d\d %  \d+:\d\d left",
    200: r"  val_loss \d\.\d{{4}}  val_accuracy \d+\.\d\d %  radius [01]\.\d\d  \d+ images/s  \d+:\d\d left",
}


@pytest.mark.parametrize("columns", REST)
def test_each_finished_epoch_is_a_line_that_stays_and_fits(tmp_path: Path, columns: int) -> None:
    terminal = Terminal([*SHORT, "--epochs", "2"], columns, tmp_path)
    assert terminal.finish() == 0
    line = EPOCH + REST[columns]
    shown = terminal.lines
    for place in (1, 2):
        assert re.fullmatch(line.format(place), shown[place - 1]), shown
    assert shown[2].startswith("run: validation accuracy ")
    assert shown[2].endswith(" %")
    assert not terminal.screen.cursor.hidden
    # At every moment there are finished epochs, whole, and at most one line below them.
    for lines in terminal.seen:
        done = [number for number, text in enumerate(lines) if " loss " in text and "step" not in text]
        assert done == list(range(len(done)))
        assert all(len(text) <= columns for text in lines)
        if not any("images/s, " in text or text.startswith("run:") for text in lines):
            assert len(lines) <= len(done) + 1, lines
    assert any(re.match(r"epoch [12]/2  (starting|step \d/8|validation \d+/\d+) ", text[-1]) for text in terminal.seen)


def test_ctrl_c_leaves_whole_lines_and_the_cursor(tmp_path: Path) -> None:
    terminal = Terminal([*SHORT, "--epochs", "5000"], 45, tmp_path, {"NO_COLOR": "1"})
    terminal.until(lambda each: any(line.startswith("epoch 2/5000  val_accuracy") for line in each.lines))
    terminal.resize(60)
    terminal.type(b"\x03")
    assert terminal.finish() == 130
    assert not terminal.screen.cursor.hidden
    lines = [line.removeprefix("^C") for line in terminal.lines]  # the terminal's own echo
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.partition("/")[0] for line in epochs] == [f"epoch {n + 1}" for n in range(len(epochs))]
    assert all("  val_accuracy " in line for line in epochs), lines
    assert not any(sign in line for line in lines for sign in "━╸╺")
    assert "".join(lines[len(epochs) :]).startswith("switchnorm: interrupted")
    colours = set(re.findall(rb"\x1b\[[0-9;]*m", terminal.written))
    assert colours <= {b"\x1b[0m", b"\x1b[1m", b"\x1b[m"}


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(tmp_path: Path) -> None:
    terminal = Terminal([*SHORT, "--epochs", "1"], 80, tmp_path, {"TERM": "dumb"})
    assert terminal.finish() == 0
    assert terminal.lines[0].startswith("epoch 1/1  loss ")
    assert b"\x1b" not in terminal.written


def test_a_log_file_has_the_same_words_in_plain_lines(tmp_path: Path) -> None:
    """Also where FORCE_COLOR is set, as in many services that run tests."""
    process = start([*SHORT, "--epochs", "2"], tmp_path, str(tmp_path / "log"), {"FORCE_COLOR": "1"})
    process.join()
    assert process.exitcode == 0
    written = (tmp_path / "log").read_bytes()
    assert b"\x1b" not in written
    assert b"\r" not in written
    lines = written.decode().splitlines()
    for place in (1, 2):
        assert re.fullmatch((EPOCH + REST[200]).format(place), lines[place - 1]), lines
    assert lines[2].startswith("run: validation accuracy ")


@pytest.mark.sweep
def test_several_trainings_fit_a_narrow_terminal(tmp_path: Path) -> None:
    command = [*SHORT, "--epochs", "1", "--seeds", "0", "1", "--workers", "2"]
    terminal = Terminal(command, 45, tmp_path)
    assert terminal.finish() == 0
    shown = terminal.lines
    assert sorted(re.sub(r"[\d.]+ %, \d+:\d\d", "", line[6:]) for line in shown[:2]) == ["seed 0: ", "seed 1: "]
    assert " ".join(line.strip() for line in shown[2:]).startswith("run: validation accuracy ")
    assert all(len(line) <= 45 for lines in terminal.seen for line in lines)
    assert any(re.fullmatch(r"0 of 2 trainings  ━+", lines[0].rstrip()) for lines in terminal.seen if lines)
    assert not terminal.screen.cursor.hidden


def test_a_long_error_is_broken_between_words(tmp_path: Path) -> None:
    terminal = Terminal(["train", "digits/resnet9", "--modle", "x"], 45, tmp_path)
    assert terminal.finish() == 2
    assert terminal.lines == ["switchnorm: flag '--modle' is unknown; did", "  you mean '--model'?"]
