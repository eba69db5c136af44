"""What training would stop at while files are found and lists are read: raised, or gathered by who looks at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from switchnorm.errors import InputError

_Read = TypeVar("_Read")


class Refusals:
    """Raises the first, as whoever trains needs it.

    Attributes:
        lenient: whether what is missing or damaged may be passed over, whatever the options say.
    """

    lenient: bool = False

    @property
    def found(self) -> tuple[str, ...]:
        """What was gathered; nothing here."""
        return ()

    def refuse(self, error: InputError) -> None:
        """Say that training stops at this; who comes back goes on without it."""
        raise error

    def attempt(self, read: Callable[[], _Read]) -> _Read | None:
        """What `read` returns; None where that was refused, and gathered."""
        return read()

    def nothing_left(self, absent: Callable[[], InputError]) -> InputError:
        """Why there is nothing to look at: what was refused first, or else that all is absent."""
        return InputError(self.found[0]) if self.found else absent()


#: What training does with them.
RAISED = Refusals()


class Gathered(Refusals):
    """Keeps all of them, so that the rest can be looked at."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @property
    def found(self) -> tuple[str, ...]:
        """As `Refusals`, in the order in which it came up."""
        return tuple(self._found)

    def refuse(self, error: InputError) -> None:
        """As `Refusals`; what comes up again when something is read again is kept once."""
        if str(error) not in self._found:
            self._found.append(str(error))

    def attempt(self, read: Callable[[], _Read]) -> _Read | None:
        """As `Refusals`; what is refused is read again and leniently, since single files may be all that is wrong."""
        try:
            return read()
        except InputError as error:
            self.refuse(error)
        self.lenient = True
        try:
            return read()
        except InputError:
            return None
        finally:
            self.lenient = False
