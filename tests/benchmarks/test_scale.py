"""The study of what grows: its exponents, a whole point, and what its page says of the record."""

import json
import math
import re
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.command import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponents(power):
    rows = [{"size": size, "seconds": 3 * size**power} for size in (1, 10, 100)]
    assert math.isclose(scale.exponent(rows, "seconds"), power, abs_tol=1e-9)
    assert scale.exponent([{"size": 1, "bytes": 0}, {"size": 2, "bytes": 5}], "bytes") is None


def test_a_row_is_measured_once_and_kept(tmp_path, capsys):
    record = tmp_path / "scale.json"
    arguments = ["scale", "--only", "order of an epoch", "--most", "100000", "--json", str(record)]
    main(arguments)
    kept = json.loads(record.read_text())
    (row,) = kept["rows"]
    assert (row["what"], row["size"]) == ("order of an epoch, pictures", 100000)
    assert 0 < row["seconds"] < 60
    assert row["bytes"] >= 0
    capsys.readouterr()
    main(arguments)
    assert json.loads(record.read_text())["rows"] == kept["rows"]


def test_the_page_has_the_numbers_of_the_record():
    rows = json.loads((ROOT / "docs/results/scale.json").read_text())["rows"]
    page = (ROOT / "docs/results/scale.md").read_text()
    found = [line.split("|")[2:5] for line in page.splitlines() if re.match(r"\|.*\|\s*[\d,]+ \|", line)]
    said = [(int(size.replace(",", "")), float(seconds), float(held)) for size, seconds, held in found]
    assert len(said) == len(rows) == sum(len(growth.sizes) for growth in scale.GROWTHS)
    for (size, seconds, held), row in zip(said, rows, strict=True):
        assert size == row["size"]
        assert seconds == pytest.approx(row["seconds"], abs=0.0006)
        assert held == pytest.approx(row["bytes"] / 1e6, abs=0.06)
