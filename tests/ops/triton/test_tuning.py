"""Tables of tunings: written, read, looked up, and refused in one line where they are broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from switchnorm.errors import InputError
from switchnorm.ops.kernels.triton import tuning
from switchnorm.ops.kernels.triton.cut import Shape, Tuning
from switchnorm.ops.kernels.triton.device import H200
from switchnorm.ops.kernels.triton.plan import plan_for
from switchnorm.ops.kernels.triton.tuning import Class, path_of, table, tuning_for, write

SHORT = Tuning(2048, 64, 8, 2, 2)
LONG = Tuning(1024, 32, 4, 6, 4)
TUNINGS = {Class(True, 2, 256): SHORT, Class(True, 2, None): LONG, Class(True, 2, 1024): Tuning(4096, 32, 4, 4, 3)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    table.cache_clear()
    plan_for.cache_clear()
    yield tmp_path
    table.cache_clear()
    plan_for.cache_clear()


def test_a_table_comes_back_and_holds(folder: Path) -> None:
    write(path_of(H200.name), H200.name, "today", TUNINGS)
    assert [path.name for path in folder.iterdir()] == ["nvidia-h200.json"]
    assert table(H200.name) == TUNINGS
    short = Shape(32, 256, 256, True, 2)
    assert tuning_for(short, H200) == SHORT
    assert tuning_for(short._replace(size=257), H200) == TUNINGS[Class(True, 2, 1024)]
    assert tuning_for(short._replace(size=1025), H200) == LONG
    assert tuning_for(short._replace(itemsize=4), H200) is None
    assert tuning_for(short._replace(channels_last=False), H200) is None
    assert tuning_for(short, H200._replace(name="NVIDIA H100")) is None
    cut = plan_for(short, H200)
    assert (cut.warps, cut.stages, cut.block_c, cut.block_c * cut.block_l) == (8, 2, 64, 2048)


def test_packaged_tables_are_sound() -> None:
    for path in tuning.FOLDER.glob("*.json"):
        name = json.loads(path.read_text())["device"]
        assert path_of(name) == path
        assert table(name)


GOOD: dict[str, Any] = {**Class(True, 2, None)._asdict(), **SHORT._asdict()}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{", "nvidia-h200.json is not JSON: "),
        ([], "nvidia-h200.json must hold device, measured and tunings, no more"),
        ({"device": H200.name, "tunings": []}, "nvidia-h200.json must hold device, measured and tunings, no more"),
        ({"device": "x", "measured": "", "tunings": []}, "nvidia-h200.json is for 'x', not 'NVIDIA H200'"),
        ({}, "nvidia-h200.json: tunings must be a list"),
        ([GOOD, {**GOOD, "more": 1}], "tuning 2 must hold channels_last, itemsize, size, elements, row, warps, "),
        ([GOOD, GOOD], "tuning 2: there is one for the same shapes before it"),
        ([{**GOOD, "channels_last": 1}], "tuning 1: channels_last must be true or false, got 1"),
        ([{**GOOD, "itemsize": 3}], "tuning 1: itemsize must be 2, 4 or 8, got 3"),
        ([{**GOOD, "size": 0}], "tuning 1: size must be a whole number from 1 or null, got 0"),
        ([{**GOOD, "elements": 3000}], "tuning 1: elements must be a power of two, got 3000"),
        ([{**GOOD, "warps": 32}], "tuning 1: warps must be a whole number from 1 to 16, got 32"),
        ([{**GOOD, "stages": 2.5}], "tuning 1: stages must be a whole number from 1 to 8, got 2.5"),
    ],
)
def test_a_broken_table_is_refused(folder: Path, written: Any, message: str) -> None:
    head = {"device": H200.name, "measured": ""}
    if isinstance(written, list) and written:
        written = {**head, "tunings": written}
    elif written == {}:
        written = {**head, "tunings": 1}
    text = written if isinstance(written, str) else json.dumps(written)
    path_of(H200.name).write_text(text)
    with pytest.raises(InputError) as error:
        plan_for(Shape(1, 1, 1, True, 2), H200)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
