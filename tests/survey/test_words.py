"""What is printed, on screens of several widths and into a pipe."""

import io
import re

import pytest
from rich.console import Console

from switchnorm.data import Folder, Masks
from switchnorm.survey.tables import class_table, split_table
from switchnorm.survey.whole import look_at
from switchnorm.survey.words import print_survey, verdict
from tests.data.photos import truncate, write_photo
from tests.training.scenes import VOID


def printed(survey, width=None):
    screen = {"force_terminal": True, "width": width} if width else {"force_terminal": False}
    console = Console(file=io.StringIO(), **screen)
    print_survey("data", survey, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


@pytest.mark.parametrize("width", [45, 80, 200])
def test_nothing_is_wider_than_the_screen(photos, scenes, width):
    write_photo(photos / f"train/cat/{'long name ' * 12}.png", 77)
    truncate(photos / "train/dog/1.jpg")
    for dataset in (Folder(str(photos), size=16, resize=20), Masks(str(scenes), ignore=[VOID])):
        text = printed(look_at(dataset), width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        assert text.count("What is there") == (2 if width == 45 else 1)


def test_into_a_pipe_a_finding_is_a_line(photos):
    truncate(photos / "train/dog/1.jpg")
    write_photo(photos / "train/cat/\x1b[31mred.jpg", 78)
    write_photo(photos / "train/cat/other.jpg", 78)
    lines = printed(look_at(Folder(str(photos), size=16, resize=20))).splitlines()
    assert lines[-3].startswith("wrong: train: 1 of 14 pictures cannot be read: dog/1.jpg (")
    assert lines[-2].startswith(
        "unusual: train: 1 picture is there again: train cat/other.jpg is train cat/\\x1b[31mred"
    )
    assert lines[-1] == "data: 1 wrong, 1 unusual; training would stop at what is wrong"


def test_the_verdict_says_that_a_part_was_looked_at(photos):
    dataset = Folder(str(photos), size=16, resize=20)
    assert verdict("x", look_at(dataset)) == "x: nothing wrong"
    assert verdict("x", look_at(dataset, limit=2)) == "x: nothing wrong among what was looked at"


def test_shares_of_pixels_and_masks(scenes):
    table = class_table(look_at(Masks(str(scenes), ignore=[VOID])))
    assert table.columns == ("Class", "train %", "train masks", "val %", "val masks")
    assert [row[0].text for row in table.rows] == ["sky", "ground", "box"]
    assert [row[2].text for row in table.rows] == ["6", "6", "6"]
    assert sum(float(row[1].text) for row in table.rows) == pytest.approx(100, abs=0.02)


def test_of_many_classes_the_rarest_come_first(tmp_path):
    for number in range(30):
        for copy in range(1 + (number * 7) % 30):
            path = tmp_path / f"train/c{number:02}/{copy}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    survey = look_at(Folder(str(tmp_path), size=16, resize=20))
    table = class_table(survey)
    counts = [int(row[1].text) for row in table.rows]
    assert counts == [*range(1, 13), 27, 28, 29, 30]
    assert table.notes == ("The 12 rarest classes and the 4 most frequent; 14 between them are left out.",)
    assert split_table(survey).rows[0][1].text == f"{sum(range(1, 31)):,}"
