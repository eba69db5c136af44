"""Classes as the terminal shows them."""

from __future__ import annotations

import numpy as np
import pytest

from switchnorm.tasks.detection.average_precision import score
from switchnorm.tasks.detection.words import class_lines
from tests.tasks.detection.pictures import tally


@pytest.mark.parametrize("masks", [False, True])
def test_a_terminal_that_is_narrower_than_the_table_gets_a_sentence_for_each_class(masks):
    draw = np.random.default_rng(0)
    scores = score([tally(draw, 1, classes=2, objects=6, detections=8, masks=masks)], 2)
    table = class_lines(["ant", "bee"], scores)
    assert [line.split()[0] for line in table] == ["class", "ant", "bee"]
    wide = max(map(len, table))
    assert class_lines(["ant", "bee"], scores, wide) == table
    said = class_lines(["ant", "bee"], scores, wide - 1)
    assert [line.split()[0] for line in said] == ["ant:", "bee:"]
    for sentence, row in zip(said, table[1:], strict=True):
        numbers = [part.rsplit(" ", 1)[1] for part in sentence.split(", ")]
        assert numbers == row.split()[1:]
    assert said[0].startswith("  ant: AP % ")
    assert said[0].count("mask AP % ") == masks
