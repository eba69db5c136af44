"""The one kind of error that a user's own input raises, and the search for the name that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

#: What the extra `train` brings, as it is imported: what the command, and networks and data by name, need beyond torch.
OF_TRAIN = frozenset(
    (
        *("PIL", "faster_coco_eval", "jsonargparse", "numpy", "plotly", "pytorch_lightning", "rich", "safetensors"),
        *("sklearn", "tensorboard", "torchmetrics", "torchvision", "yaml"),
    )
)
#: Names that an error lists, and how long the list may be.
_MOST, _LONGEST = 24, 200


class InputError(ValueError):
    """What was given cannot be used. The message is one line: the thing, the rule, the nearest valid value.

    The library raises it as the `ValueError` that it is; the command line prints it and exits with code 2.
    """


class AbsentError(InputError):
    """Data that is not here at all, neither broken nor foreign: a dry run goes on with noise in its place."""


def not_installed(packages: Sequence[str], doing: str, extra: str = "train") -> InputError:
    """The error for packages that are not there, with the line that installs them.

    Args:
        packages: as they are imported.
        doing: what needs them.
        extra: of this library, which brings them.
    """
    are = "is" if len(packages) == 1 else "are"
    return InputError(
        f"{doing} needs {' and '.join(packages)}, which {are} not installed; run `pip install 'switchnorm[{extra}]'`"
    )


def unknown(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """The error for a name that is not among `choices`, with the closest choice when one is close.

    Args:
        kind: what the name was meant to name, for example "norm".
        name: what was given.
        choices: every valid name; where none is close the first of them are listed.

    Returns:
        An `InputError` to raise: "norm 'sm' is unknown; did you mean 'sn'?".
    """
    by_lower_case = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(str(name).lower(), by_lower_case, n=1, cutoff=0.5)
    if close:
        return InputError(f"{kind} {name!r} is unknown; did you mean {by_lower_case[close[0]]!r}?")
    listed = list(by_lower_case.values())
    shown = listed[:_MOST]
    while len(", ".join(shown)) > _LONGEST:
        shown.pop()
    more = f", and {len(listed) - len(shown)} more" if len(listed) > len(shown) else ""
    return InputError(f"{kind} {name!r} is unknown; choose from {', '.join(shown)}{more}")
