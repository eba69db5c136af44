"""Tables hold names from outside, run nothing in a spreadsheet, and are read as they were."""

import pytest

from switchnorm.errors import InputError
from switchnorm.runs.tables import csv_rows, csv_text, restore_tables, table

NAMES = [
    "=cmd()",
    "+1+1",
    "-a",
    "@sum",
    "\tx",
    "\rx",
    "'=quoted",
    "''=twice",
    "'plain",
    "plain",
    "",
    "a,b",
    'a"b',
    "ä\nb",
]


def test_names_are_read_as_they_were_and_begin_no_formula(tmp_path):
    (tmp_path / "x.csv").write_bytes(csv_text([NAMES]).encode())
    ((_, row),) = csv_rows(tmp_path / "x.csv")
    assert row == [name.replace("\r", "\n") for name in NAMES]
    assert not any(cell.strip('"').startswith(("=", "+", "@", "\t", "\r")) for cell in csv_text([NAMES]).split(","))


def test_numbers_stay_numbers():
    assert csv_text([[-0.5, "-0.5", "+1e-3", "-inf", ""]]) == "-0.5,-0.5,+1e-3,-inf,\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_are_read_as_editors_write_them(tmp_path, encoding):
    (tmp_path / "x.csv").write_bytes("epoch,name\r\n1,ä\r\n\r\n".encode(encoding))
    assert [row for _, row in table(tmp_path / "x.csv", ("epoch",))] == [{"epoch": "1", "name": "ä"}]


def test_a_field_without_end_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text('epoch\n"' + "a" * 200_000)
    with pytest.raises(InputError, match=r"x\.csv, line \d+: the file is damaged"):
        list(table(tmp_path / "x.csv", ("epoch",)))


@pytest.mark.parametrize("tables", [3, {"../a.csv": ""}, {7: ""}, {"a\0.csv": ""}, {"metrics.csv": "\ud800"}])
def test_tables_of_a_checkpoint_that_no_training_wrote_are_refused(tmp_path, tables):
    with pytest.raises(InputError, match="is damaged"):
        restore_tables(tmp_path, {"tables": tables})
    assert not list(tmp_path.iterdir())
