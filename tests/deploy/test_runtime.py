"""What files say where the library that runs them fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from switchnorm.deploy.description import Description
from switchnorm.deploy.runtime import FileRuntime
from switchnorm.errors import InputError
from switchnorm.text import first_line, last_line


class SilentError(Exception):
    """As libraries raise it that have nothing to say."""


@pytest.mark.parametrize(
    ("error", "first", "last"),
    [
        (SilentError(), "SilentError", "SilentError"),
        (SilentError("\n ----- \n"), "SilentError", "SilentError"),
        (SilentError("\n ===\nthe way\nto the reason\n"), "the way", "to the reason"),
    ],
)
def test_an_error_of_a_library_is_one_line_whatever_it_says(error, first, last):
    assert first_line(error) == first
    assert last_line(error) == last

    def run(images):
        raise error

    runtime = FileRuntime(Path("net.xml"), Description(), ("output",), run)
    with pytest.raises(InputError, match=rf"^net.xml cannot run on images of \(8, 9\): {last}$"):
        runtime(np.zeros((1, 3, 8, 9), np.uint8))
