"""Options of networks: saying what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from switchnorm.errors import InputError, unknown

#: What `create_model` takes for every network, whoever defined it; to be listed beside a network's own options.
SHARED = ("momentum", "statistics", "tied")


@contextmanager
def explained(name: str, options: Mapping[str, Any], known: Callable[[], Iterable[str]] = lambda: ()) -> Iterator[None]:
    """Turn what a builder raises because of its options into an `InputError`.

    Args:
        name: the network's.
        options: what the builder was given; without any, its errors are its own.
        known: looks up options that the builder takes, to suggest one for a name that it refused.
    """
    try:
        yield
    except InputError:
        raise
    # What the code of others raises for a wrong argument may be anything.
    except Exception as error:
        if not options:
            raise
        message = str(error).strip().partition("\n")[0] or type(error).__name__
        refused = re.search(r"unexpected keyword argument '(\w+)'", message)
        if refused and refused[1] in options and (choices := list(known())):
            raise unknown(f"option of {name!r}", refused[1], choices) from error
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise InputError(f"model {name!r} cannot be built with {given}: {message}") from error
