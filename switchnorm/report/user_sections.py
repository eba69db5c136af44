"""Sections of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from switchnorm.errors import InputError
from switchnorm.report.common.groups import Group

Section = Callable[[Sequence[Group]], str]

_SECTIONS: list[Section] = []


def register_section(function: Section) -> Section:
    """Add a section to every page: after the library's own, before provenance. Also a decorator.

    `switchnorm report RUN ... --plugins my_sections` imports my_sections.py, which may register some. What belongs to
    one task comes with the task instead, as `TaskSpec.sections` of its registration.

    The function receives all groups of the page, in the order of their first run. A `Group` is the runs that differ
    only in their seed:

    - `label`, unique on the page, `norm`, `score`, and `settings`: the configuration by dotted keys
    - `runs`, by seed; each `Run` has `name`, `path`, `seed`, `task`, `settings` and
      - `measured(column)`: a column of metrics.csv by epoch, without the epochs that did not measure it
      - `importance`: the layers' weights in the order of depth, by epoch; empty where no layer mixes statistics
      - `provenance`: what run.json holds

    What it returns goes into the page as it is, so words from outside have to be escaped. In `switchnorm.report`,
    `section`, `note`, `table` (of a `Table` of `Cell`s) and `figure` (of plotly's, after `plain_figure`) do that:

        @register_section
        def losses(groups):
            rows = [(Cell(group.label), Cell(str(group.runs[0].measured("val_loss")))) for group in groups]
            return section("Losses", table(Table("Loss of validation by epoch", ("Normalizer", "Loss"), tuple(rows))))

    Args:
        function: from groups of runs to HTML; "" where it has nothing to say about them.

    Returns:
        The function.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(function):
        raise InputError(f"a section of the report is a function from groups of runs to HTML; got {function!r}")
    if function not in _SECTIONS:
        _SECTIONS.append(function)
    return function


def user_sections(groups: Sequence[Group]) -> list[str]:
    """What the registered sections make of the groups, in the order of their registration.

    Raises:
        InputError: one failed, or returned something else than text.
    """
    made = []
    for function in _SECTIONS:
        name = f"section {getattr(function, '__name__', type(function).__name__)!r}"
        html = made_by(name, function, groups)
        if not isinstance(html, str):
            raise InputError(f"{name} returned {type(html).__name__}; expected HTML as str")
        made.append(html)
    return made


def made_by(name: str, function: Callable[..., Any], groups: Sequence[Group]) -> Any:
    """What anybody's function makes of the groups; raise `InputError` with its name if it fails."""
    try:
        return function(groups)
    except InputError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise InputError(f"{name} failed: {type(error).__name__}: {said}") from error
