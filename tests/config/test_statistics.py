"""What an evaluation normalizes by, as users write it."""

import pytest

from switchnorm.config.statistics import EvaluationStatistics, parse_statistics
from switchnorm.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("running", EvaluationStatistics()),
        ("batch", EvaluationStatistics("batch")),
        ("calibrate:1", EvaluationStatistics("calibrate", 1)),
        ("calibrate:200", EvaluationStatistics("calibrate", 200)),
    ],
)
def test_what_is_understood_is_written_the_same_way(text, expected):
    assert parse_statistics(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "statistics 'foo' is unknown; choose from running, batch, calibrate:N"),
        ("bach", "statistics 'bach' is unknown; did you mean 'batch'?"),
        ("Running", "statistics 'Running' is unknown; did you mean 'running'?"),
        ("calibrat:3", "did you mean 'calibrate:N'?"),
        ("batch:3", "did you mean 'batch'?"),
        ("", "choose from running, batch, calibrate:N"),
        *(
            (text, f"statistics '{text}' must name a number of batches of at least 1; the nearest is 'calibrate:1'")
            for text in ("calibrate", "calibrate:", "calibrate:0", "calibrate:-2", "calibrate:x", "calibrate:1.5")
        ),
    ],
)
def test_what_is_not_understood_names_the_nearest(text, message):
    with pytest.raises(InputError) as caught:
        parse_statistics(text)
    assert message in str(caught.value)
